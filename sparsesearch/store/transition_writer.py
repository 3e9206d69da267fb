"""The base class of writers: claims and records are pure transitions, applied under the lease."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from sparsesearch.store import transitions
from sparsesearch.study.events import Event, Measured
from sparsesearch.study.hits import Hits
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.trial import NewTrial, Trial

Change = tuple[int, Callable[[Trial], Trial]]
"""The number of a trial, and its transition."""

NO_HITS: Mapping[int, Hits] = MappingProxyType({})


class TransitionWriter(StudyWriter):
    """An open study; subclasses implement how trials are read, changed and written in one transaction."""

    def add_trial(self, trial: NewTrial) -> Trial:
        """Store a new trial as WAITING; see `StudyWriter.add_trial`.

        Raises:
            DuplicateTrialError: Another number has the same schedule, fidelity and seed.
            StaleAttemptError: The lease is lost.
        """
        return self.add_trials([trial])[0]

    def claim(self, number: int, *, retry: bool = False, reason: str | None = None) -> Trial:
        """Mark a trial that is not in a final state as RUNNING; see `StudyWriter.claim`.

        Raises:
            StaleAttemptError: The lease is lost, or the trial is in a final state.
            LookupError: The trial does not exist.
        """
        return self._change([(number, lambda trial: transitions.claimed(trial, retry=retry, reason=reason))])[0]

    def claim_all(self, numbers: Sequence[int]) -> list[Trial]:
        """Mark trials as RUNNING in one transaction; see `StudyWriter.claim_all`.

        Raises:
            StaleAttemptError: The lease is lost, or one of the trials is in a final state.
            LookupError: One of the trials does not exist.
        """
        return self._change([(number, lambda trial: transitions.claimed(trial, retry=False)) for number in numbers])

    def reopen(self, number: int, *, reason: str) -> Trial:
        """Mark a training that has ended as RUNNING without a checkpoint; see `StudyWriter.reopen`.

        Raises:
            StaleAttemptError: The lease is lost, or the trial is no training that has ended well.
            LookupError: The trial does not exist.
        """
        return self._change([(number, lambda trial: transitions.reopened(trial, reason=reason))])[0]

    def record(self, event: Event) -> Trial:
        """Record an event and return the resulting trial; see `StudyWriter.record`.

        Raises:
            StaleAttemptError: The lease is lost, the attempt is not the current one, or the trial is in a final state.
            LookupError: The trial does not exist.
        """
        return self.record_all([event])[0]

    def record_all(self, events: Sequence[Event]) -> list[Trial]:
        """Record events in one transaction; see `StudyWriter.record_all`.

        Raises:
            StaleAttemptError: The lease is lost, or one of the events is rejected.
            LookupError: One of the trials does not exist.
        """
        hits = {event.trial: event.hits for event in events if isinstance(event, Measured) and event.hits is not None}
        return self._change([(event.trial, _recording(event)) for event in events], hits=hits)

    @abstractmethod
    def _change(self, changes: Sequence[Change], *, hits: Mapping[int, Hits] = NO_HITS) -> list[Trial]:
        """Read trials, change them in order, write those that changed, all under the lease; return each result.

        Args:
            changes: The transitions.
            hits: Hits of trials, by number; those that a trial has already are kept.
        """


def _recording(event: Event) -> Callable[[Trial], Trial]:
    return lambda trial: transitions.recorded(trial, event)
