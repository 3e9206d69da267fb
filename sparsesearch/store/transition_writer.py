"""What claims and records are in every store: a pure transition, carried out under the lease."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from sparsesearch.store import transitions
from sparsesearch.study.events import Event
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.trial import Trial


class TransitionWriter(StudyWriter):
    """One open study; a store adds how a trial is read, changed and written in one transaction."""

    def claim(self, number: int, *, retry: bool = False, reason: str | None = None) -> Trial:
        """Mark a trial that is not in a final state as RUNNING; see `StudyWriter.claim`.

        Raises:
            StaleAttemptError: The lease is lost, or the trial is in a final state.
            LookupError: There is no such trial.
        """
        return self._change(number, lambda trial: transitions.claimed(trial, retry=retry, reason=reason))

    def record(self, event: Event) -> Trial:
        """Write what happened and return the trial as it is afterwards; see `StudyWriter.record`.

        Raises:
            StaleAttemptError: The lease is lost, the attempt is not the current one, or the trial is in a final state.
            LookupError: There is no such trial.
        """
        return self._change(event.trial, lambda trial: transitions.recorded(trial, event))

    @abstractmethod
    def _change(self, number: int, change: Callable[[Trial], Trial]) -> Trial:
        """Read a trial, change it and write it, if it changed, under the lease; returns it as it is afterwards."""
