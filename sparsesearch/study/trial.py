"""Trials: one schedule at one fidelity, with its measurements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Literal

from pydantic import Field

from sparsesearch.schedule import Schedule
from sparsesearch.study.latency_record import ConfirmedLatency
from sparsesearch.study.numbers import Numbers
from sparsesearch.value import Value

Axis = Literal["macs", "ms"]
"""The unit of a budget, and of the costs of a front."""


class TrialState(StrEnum):
    """The state of a trial.

    WAITING -> RUNNING -> one of the final states.
    """

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    REFERENCE = "REFERENCE"

    @property
    def is_final(self) -> bool:
        """Whether the trial cannot change any more."""
        return self not in (TrialState.WAITING, TrialState.RUNNING)


class Fidelity(StrEnum):
    """How a trial is evaluated. Trials of different fidelities are never put into one front.

    Attributes:
        DENSE: The dense model.
        UNTRAINED: A schedule evaluated with the dense weights, without training.
        SUPERNET_TRAINING: The training of the shared weights of all schedules.
        COUNTS: Learns by gradients how many tokens to keep where, for the sampler `gradients`.
        SUPERNET: A schedule evaluated with the shared weights, without training of its own.
        RESCORED: One of the best of these, evaluated as before, but on images that did not rank it.
        FINETUNE: A schedule that is fine-tuned briefly.
        RETRAIN: A schedule that is fully trained.
    """

    DENSE = "dense"
    UNTRAINED = "untrained"
    SUPERNET_TRAINING = "supernet_training"
    COUNTS = "counts"
    SUPERNET = "supernet"
    RESCORED = "rescored"
    FINETUNE = "finetune"
    RETRAIN = "retrain"

    @property
    def is_training(self) -> bool:
        """Whether its trials train; otherwise each is a single evaluation."""
        return self not in (Fidelity.UNTRAINED, Fidelity.SUPERNET, Fidelity.RESCORED)

    @property
    def runs_alone(self) -> bool:
        """Whether all other trials build on it, so that none runs at the same time."""
        return self in (Fidelity.DENSE, Fidelity.SUPERNET_TRAINING)

    @property
    def training_name(self) -> str:
        """Name of its training: `dense training`, `supernet training`, `learning of counts`."""
        if self is Fidelity.COUNTS:
            return "learning of counts"
        return f"{self.value.removesuffix('_training')} training"


class Origin(StrEnum):
    """Who proposed a trial."""

    SEARCH = "search"
    BASELINE = "baseline"
    REFERENCE = "reference"


TRAINED_DENSE = "dense, same training"
"""Label of the dense model that was fine-tuned as the candidates were, the fair reference for their accuracies."""


class Cost(Value):
    """The inference cost of a model.

    Attributes:
        macs: Multiply-adds per image of linear layers, convolutions and matrix products.
        params: Number of parameters, including predictors.
        latency_ms: Measured milliseconds per call on the study's target; None if not measured.
        predicted_ms: Predicted milliseconds per call; None without a profile.
    """

    macs: int
    params: int
    latency_ms: float | None = None
    predicted_ms: float | None = None

    @property
    def ms(self) -> float | None:
        """Milliseconds on the target: measured if available, otherwise predicted; None if neither is."""
        return self.predicted_ms if self.latency_ms is None else self.latency_ms

    def along(self, axis: Axis) -> float | None:
        """Multiply-adds or milliseconds; None if unknown."""
        return self.macs if axis == "macs" else self.ms


class Measurement(Value):
    """The metrics after `step` epochs of a trial.

    Attributes:
        step: Epochs done, counted from 1; 0 for an evaluation without training.
        attempt: The attempt that reported it.
        fidelity: How the metrics were obtained.
        metrics: Values by name, accuracies as fractions in [0, 1].
        seconds: Wall-clock time of this epoch; not part of the result.
        seed: Seed that the metrics depend on.
    """

    step: int = Field(ge=0)
    attempt: int = Field(ge=1)
    fidelity: Fidelity
    metrics: dict[str, float]
    seconds: float
    seed: int


class CheckpointRef(Value):
    """A checkpoint outside the database: its location and the hash of its bytes."""

    uri: str
    sha256: str
    step: int = Field(ge=0)


class Proposal(Value):
    """How a proposal was made, so that it can be reproduced.

    Attributes:
        index: Position in the sequence of proposals of the study.
        seed: Seed derived from (study seed, index).
        seen: Numbers of the trials whose results the sampler had been told.
        params: The flat parameters in the sampler's space, after canonicalisation.
        system_attrs: Data that the sampler stores with the trial.
    """

    index: int
    seed: int
    seen: Numbers
    params: dict[str, int | float | str]
    system_attrs: dict[str, object] = Field(default_factory=dict)


class NewTrial(Value):
    """A trial before the store has given it a state.

    Attributes:
        number: 0-based number in the study; also the idempotency key of adding it.
        fidelity: The fidelity of its evaluation.
        origin: Who proposed it.
        label: Short display name: `dense`, `rho at 3,6,9`, `search`.
        schedule: The schedule to evaluate.
        key: Fingerprint of the schedule for its backbone.
        cost: Its closed-form cost.
        seed: Seed of its training and evaluation.
        parent: Number of the trial that it continues (fine-tuning after a supernet evaluation), or None.
        proposal: How the sampler proposed it, or None.
        budget_macs: The budget it was proposed for, or None.
    """

    number: int = Field(ge=0)
    fidelity: Fidelity
    origin: Origin
    label: str
    schedule: Schedule
    key: str
    cost: Cost
    seed: int
    parent: int | None = None
    proposal: Proposal | None = None
    budget_macs: int | None = None


class Trial(NewTrial):
    """A trial as stored.

    Attributes:
        study: Name of its study.
        state: Its state.
        attempt: Current attempt, 0 before the first claim; the fencing token of every write.
        reason: Why it was stopped, failed or retried; or None.
        measurements: Its measurements, by step.
        checkpoint: Its latest checkpoint, or None.
        confirmed: Its latency measured on the study's target; None if it is only predicted.
        builds_on: Checkpoints of the trainings that it starts from, by fidelity. Not stored: filled in for its
            evaluation, which verifies them.
        followed_by: Schedules of the evaluations after it that may share a pass over the images with it. Not stored:
            filled in for its evaluation.
    """

    study: str
    state: TrialState = TrialState.WAITING
    attempt: int = 0
    reason: str | None = None
    measurements: tuple[Measurement, ...] = ()
    checkpoint: CheckpointRef | None = None
    confirmed: ConfirmedLatency | None = None
    builds_on: dict[Fidelity, CheckpointRef] = Field(default_factory=dict)
    followed_by: tuple[Schedule, ...] = ()

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the last measurement; empty if there is none."""
        return self.measurements[-1].metrics if self.measurements else {}

    @property
    def epochs_done(self) -> int:
        """Number of measured epochs."""
        return self.measurements[-1].step if self.measurements else 0

    @property
    def is_foundation(self) -> bool:
        """Whether all other trials build on it: the dense and the supernet training."""
        return self.origin is Origin.REFERENCE and self.fidelity.runs_alone

    def public(self) -> dict[str, object]:
        """The object that `trials --json` and `front --json` print for a trial."""
        return {
            "id": self.number,
            "state": self.state.value,
            "fidelity": self.fidelity.value,
            "macs": self.cost.macs,
            "params": self.cost.params,
            "latency_ms": self.cost.latency_ms,
            "predicted_ms": self.cost.predicted_ms,
            "metrics": dict(self.metrics),
            "schedule": self.schedule.model_dump(mode="json"),
            "attempt": self.attempt,
            "origin": self.origin.value,
            "label": self.label,
            "parent": self.parent,
            "reason": self.reason,
        }


def with_checkpoints(trial: Trial, references: Iterable[Trial]) -> Trial:
    """Return a trial that is to be evaluated with the checkpoints of the trainings that it builds on.

    Args:
        trial: The claimed trial.
        references: The REFERENCE trials of its study.
    """
    found = {one.fidelity: one.checkpoint for one in references if one.checkpoint is not None and one.is_foundation}
    return trial.model_copy(update={"builds_on": found})


def in_sequence(trials: Sequence[Trial]) -> list[Trial]:
    """Return trials that are to be evaluated one after the other by one process, each with those that follow it."""
    return [
        trial.model_copy(update={"followed_by": tuple(later.schedule for later in trials[i:])})
        for i, trial in enumerate(trials, start=1)
    ]


class TrialTimes(Value):
    """Times of a trial, in Unix seconds. They are not part of a result.

    Attributes:
        started_at: Time of the first claim, or None.
        ended_at: Time of reaching a final state, or None.
        measured_at: Time of recording each measurement, by step.
    """

    started_at: float | None = None
    ended_at: float | None = None
    measured_at: dict[int, float] = Field(default_factory=dict)


class StudyTimes(Value):
    """Times of a study. Its name and `created_at` distinguish it from an older study of the same name.

    Attributes:
        created_at: Creation time, in Unix seconds.
        trials: Times of its trials, by number.
    """

    created_at: float
    trials: dict[int, TrialTimes] = Field(default_factory=dict)


FinalState = Literal[TrialState.COMPLETE, TrialState.STOPPED, TrialState.FAILED, TrialState.REFERENCE]
