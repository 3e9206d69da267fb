"""State transitions of a trial, shared by all stores: pure functions from a trial to the resulting trial."""

from __future__ import annotations

from sparsesearch.errors import StaleAttemptError
from sparsesearch.store.codec import storable_text
from sparsesearch.study.events import Checkpointed, Confirmed, Event, Measured
from sparsesearch.study.trial import Trial, TrialState


def claimed(trial: Trial, *, retry: bool, reason: str | None = None) -> Trial:
    """Return the trial as RUNNING; the same object if nothing changes.

    Args:
        trial: The stored trial.
        retry: Whether an execution failed, so that a new attempt starts.
        reason: Why it failed, or None.

    Raises:
        StaleAttemptError: The trial is in a final state.
    """
    if trial.state.is_final:
        raise StaleAttemptError(f"{_name(trial)} is already {trial.state}; it cannot be claimed")
    attempt = trial.attempt + 1 if retry or trial.attempt == 0 else trial.attempt
    if trial.state is TrialState.RUNNING and attempt == trial.attempt:
        return trial
    why = trial.reason if reason is None else storable_text(reason)
    return trial.model_copy(update={"state": TrialState.RUNNING, "attempt": attempt, "reason": why})


def reopened(trial: Trial, *, reason: str) -> Trial:
    """Return a training that has ended well as RUNNING without a checkpoint; its measurements are kept.

    Raises:
        StaleAttemptError: The trial is in another state.
    """
    if trial.state not in (TrialState.REFERENCE, TrialState.COMPLETE):
        raise StaleAttemptError(f"{_name(trial)} is {trial.state}; only a training that has ended well can be repeated")
    changes = {"state": TrialState.RUNNING, "checkpoint": None, "reason": storable_text(reason)}
    return trial.model_copy(update=changes)


def retried(trial: Trial, *, reason: str) -> Trial:
    """Return a FAILED trial as RUNNING, at another attempt; its measurements and its checkpoint are kept.

    Raises:
        StaleAttemptError: The trial is in another state.
    """
    if trial.state is not TrialState.FAILED:
        raise StaleAttemptError(f"{_name(trial)} is {trial.state}; only a failed trial can be retried")
    changes = {"state": TrialState.RUNNING, "attempt": trial.attempt + 1, "reason": storable_text(reason)}
    return trial.model_copy(update=changes)


def recorded(trial: Trial, event: Event) -> Trial:
    """Return the trial after an event; the same object if the event changes nothing.

    Args:
        trial: The stored trial.
        event: The event.

    Raises:
        StaleAttemptError: The event is of another attempt, or would change a trial in a final state.
    """
    if event.attempt != trial.attempt:
        raise StaleAttemptError(
            f"{_name(trial)} is at attempt {trial.attempt}; an event of attempt {event.attempt} is rejected"
        )
    if isinstance(event, Confirmed):
        return _confirmed(trial, event)
    if isinstance(event, Measured):
        after = _measured(trial, event)
    elif isinstance(event, Checkpointed):
        same = event.checkpoint == trial.checkpoint
        after = trial if same else trial.model_copy(update={"checkpoint": event.checkpoint})
    else:
        reason = trial.reason if event.reason is None else storable_text(event.reason)
        same = event.state is trial.state
        after = trial if same else trial.model_copy(update={"state": event.state, "reason": reason})
    if after is not trial and trial.state.is_final:
        raise StaleAttemptError(f"{_name(trial)} is already {trial.state}; an event that changes it is rejected")
    return after


def _measured(trial: Trial, event: Measured) -> Trial:
    measurement = event.measurement
    if measurement.attempt != event.attempt:
        raise StaleAttemptError(
            f"{_name(trial)}: a measurement of attempt {measurement.attempt} in an event of attempt {event.attempt} "
            "is rejected"
        )
    if any(earlier.step == measurement.step for earlier in trial.measurements):
        return trial
    measurements = sorted((*trial.measurements, measurement), key=lambda item: item.step)
    return trial.model_copy(update={"measurements": tuple(measurements)})


def _confirmed(trial: Trial, event: Confirmed) -> Trial:
    """Set the measured latency of a finished trial, which may be measured again at any time."""
    if not trial.state.is_final:
        raise StaleAttemptError(f"{_name(trial)} is {trial.state}; its latency can be measured only after it has ended")
    if event.latency == trial.confirmed:
        return trial
    cost = trial.cost.model_copy(update={"latency_ms": event.latency.ms})
    return trial.model_copy(update={"cost": cost, "confirmed": event.latency})


def _name(trial: Trial) -> str:
    return f"trial {trial.number} of study {trial.study!r}"
