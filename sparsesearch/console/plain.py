"""Progress as plain lines, for logs, pipes and terminals that cannot redraw."""

from __future__ import annotations

import time
from collections.abc import Callable

from sparsesearch.console.heartbeat import Heartbeat
from sparsesearch.console.reporter import Reporter
from sparsesearch.console.sentences import ended_line, search_line, started_line, work_line
from sparsesearch.console.streams import say
from sparsesearch.console.watch import StudyWatch
from sparsesearch.study.trial import Trial

SUMMARY_SECONDS = 30.0
"""Interval between progress lines of the search."""


class PlainReporter(Reporter):
    """Prints a line when a training starts or ends, and summaries of the search.

    Whenever nothing was printed for a while, it prints the work under way.

    Args:
        clock: Monotonic clock, in seconds.
    """

    prints_summary = True

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._reported_at: float | None = None
        self.heartbeat = Heartbeat(self._beat)

    def line(self, text: str) -> None:
        """Print a line."""
        self.said()
        say(text)

    def trial_started(self, watch: StudyWatch, trial: Trial) -> None:
        """Print a line for a training that started."""
        self._print(started_line(watch.spec, trial))
        if not trial.fidelity.is_training and self._reported_at is None:
            self._reported_at = self._clock()

    def trial_ended(self, watch: StudyWatch, trial: Trial) -> None:
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

    def _beat(self) -> None:
        """Print the work under way, and how long the study is expected to take."""
        self.line(work_line(self.board.work(), None if self._watch is None else self._watch.status()))
