"""Lines only: for logs, pipes and terminals that cannot redraw."""

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
"""How often it is said how far the search, or another long piece of work, is."""


class _PlainBar:
    def __init__(self, label: str, total: int, clock: Callable[[], float]) -> None:
        self._label, self._total, self._clock = label, total, clock
        self._done = 0
        self._said_at = clock()

    def advance(self, amount: int = 1, *, note: str | None = None) -> None:
        """Say so, but not every time."""
        self._done += amount
        if self._clock() - self._said_at >= SUMMARY_SECONDS:
            self._said_at = self._clock()
            say(f"{self._label}: {self._done} of {self._total}" + (f" ({note})" if note else ""))

    def __enter__(self) -> _PlainBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What follows says what came of it."""


class PlainReporter(Reporter):
    """A line for each training that begins or ends, and one now and then while schedules are searched.

    Args:
        clock: Seconds that pass.
    """

    tells_people = True

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said_at: float | None = None

    def bar(self, label: str, total: int) -> _PlainBar:
        """A line now and then; none for what is soon done."""
        return _PlainBar(label, total, self._clock)

    def line(self, text: str) -> None:
        """A line that stays."""
        say(text)

    def started(self, watch: StudyWatch, trial: Trial) -> None:
        """An attempt of a trial began."""
        self._say(started_line(watch.spec, trial))
        if not trial.fidelity.is_training and self._said_at is None:
            self._said_at = self._clock()

    def ended(self, watch: StudyWatch, trial: Trial) -> None:
        """A trial reached a final state."""
        self._say(ended_line(watch.spec, trial))
        if trial.fidelity.is_training or self._said_at is None:
            return
        status = watch.status()
        phase = next(phase for phase in status.phases if phase.fidelity is trial.fidelity)
        if self._clock() - self._said_at >= SUMMARY_SECONDS or phase.done == phase.total:
            self._said_at = self._clock()
            self.line(search_line(status, phase))

    def _say(self, text: str | None) -> None:
        if text is not None:
            self.line(text)
