"""The base class of writers: claims and records are pure transitions, applied under the lease."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from sparsesearch.store import transitions
from sparsesearch.study.events import Event
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.trial import Trial


class TransitionWriter(StudyWriter):
    """An open study; subclasses implement how a trial is read, changed and written in one transaction."""

    def claim(self, number: int, *, retry: bool = False, reason: str | None = None) -> Trial:
        """Mark a trial that is not in a final state as RUNNING; see `StudyWriter.claim`.

        Raises:
            StaleAttemptError: The lease is lost, or the trial is in a final state.
            LookupError: The trial does not exist.
        """
        return self._change(number, lambda trial: transitions.claimed(trial, retry=retry, reason=reason))

    def reopen(self, number: int, *, reason: str) -> Trial:
        """Mark a REFERENCE trial as RUNNING without a checkpoint; see `StudyWriter.reopen`.

        Raises:
            StaleAttemptError: The lease is lost, or the trial is not a REFERENCE.
            LookupError: The trial does not exist.
        """
        return self._change(number, lambda trial: transitions.reopened(trial, reason=reason))

    def record(self, event: Event) -> Trial:
        """Record an event and return the resulting trial; see `StudyWriter.record`.

        Raises:
            StaleAttemptError: The lease is lost, the attempt is not the current one, or the trial is in a final state.
            LookupError: The trial does not exist.
        """
        return self._change(event.trial, lambda trial: transitions.recorded(trial, event))

    @abstractmethod
    def _change(self, number: int, change: Callable[[Trial], Trial]) -> Trial:
        """Read a trial, change it, write it if it changed, and return it, all under the lease."""
