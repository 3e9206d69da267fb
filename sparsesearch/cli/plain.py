"""Progress as plain lines, for logs, pipes and terminals that cannot redraw."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from sparsesearch.cli.console import say
from sparsesearch.cli.reporter import Reporter
from sparsesearch.cli.sentences import ended_line, search_line, started_line
from sparsesearch.cli.watch import StudyWatch
from sparsesearch.study.trial import Trial

SUMMARY_SECONDS = 30.0
"""Interval between progress lines of the search and of other long tasks."""


class _PlainBar:
    def __init__(self, label: str, total: int, clock: Callable[[], float]) -> None:
        self._label, self._total, self._clock = label, total, clock
        self._done = 0
        self._reported_at = clock()

    def advance(self, amount: int = 1, *, note: str | None = None) -> None:
        """Advance the bar, and print a line at most every `SUMMARY_SECONDS`."""
        self._done += amount
        if self._clock() - self._reported_at >= SUMMARY_SECONDS:
            self._reported_at = self._clock()
            say(f"{self._label}: {self._done} of {self._total}" + (f" ({note})" if note else ""))

    def __enter__(self) -> _PlainBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Print nothing: the caller reports the result."""


class PlainReporter(Reporter):
    """Prints a line when a training starts or ends, and a summary at intervals while schedules are searched.

    Args:
        clock: Monotonic clock, in seconds.
    """

    prints_summary = True

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._reported_at: float | None = None

    def bar(self, label: str, total: int) -> _PlainBar:
        """Create a bar that prints a line at intervals, and none for short tasks."""
        return _PlainBar(label, total, self._clock)

    def line(self, text: str) -> None:
        """Print a line."""
        say(text)

    def started(self, watch: StudyWatch, trial: Trial) -> None:
        """Print a line for a training that started."""
        self._print(started_line(watch.spec, trial))
        if not trial.fidelity.is_training and self._reported_at is None:
            self._reported_at = self._clock()

    def ended(self, watch: StudyWatch, trial: Trial) -> None:
        """Print a line for a training that ended or a trial that failed, and a summary of the search at intervals."""
        self._print(ended_line(watch.spec, trial))
        if trial.fidelity.is_training or self._reported_at is None:
            return
        status = watch.status()
        phase = next(phase for phase in status.phases if phase.fidelity is trial.fidelity)
        if self._clock() - self._reported_at >= SUMMARY_SECONDS or phase.done == phase.total:
            self._reported_at = self._clock()
            self.line(search_line(status, phase))

    def _print(self, text: str | None) -> None:
        if text is not None:
            self.line(text)
