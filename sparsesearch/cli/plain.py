"""Lines only: for logs, pipes and terminals that cannot redraw."""

from __future__ import annotations

import time
from collections.abc import Callable

from sparsesearch.cli.console import say
from sparsesearch.cli.reporter import Reporter
from sparsesearch.cli.sentences import ended_line, search_line, started_line
from sparsesearch.cli.watch import StudyWatch
from sparsesearch.trial import Trial

SUMMARY_SECONDS = 30.0
"""How often it is said how far the search is."""


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
