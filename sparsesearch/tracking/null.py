"""Shows nothing."""

from __future__ import annotations

from sparsesearch.study.protocols import Tracker
from sparsesearch.study.trial import Trial


class NullTracker(Tracker):
    """The tracker of a study that is shown nowhere."""

    def start(self, study: str) -> None:
        """Nothing."""

    def log(self, trial: Trial) -> None:
        """Nothing."""

    def finish(self, *, interrupted: bool = False) -> None:
        """Nothing."""
