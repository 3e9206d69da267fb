"""A tracker that logs nothing."""

from __future__ import annotations

from sparsesearch.study.protocols import Tracker
from sparsesearch.study.trial import Trial


class NullTracker(Tracker):
    """A tracker that logs nothing."""

    def start(self, study: str) -> None:
        """Do nothing."""

    def log(self, trial: Trial) -> None:
        """Do nothing."""

    def finish(self, *, interrupted: bool = False) -> None:
        """Do nothing."""
