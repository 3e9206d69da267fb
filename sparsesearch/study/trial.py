"""Trials: one schedule at one fidelity, with everything that was measured on it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from sparsesearch.schedule import Schedule
from sparsesearch.study.latency_record import ConfirmedLatency
from sparsesearch.value import Value

Axis = Literal["macs", "ms"]
"""What a budget limits and a front is drawn over."""


class TrialState(StrEnum):
    """Where a trial is in its life.

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
        """Whether nothing can happen to the trial any more."""
        return self not in (TrialState.WAITING, TrialState.RUNNING)


class Fidelity(StrEnum):
    """How a number was obtained. Numbers of different fidelities are never put into one front.

    Attributes:
        DENSE: The unsparsified model.
        UNTRAINED: A schedule evaluated with the dense weights, without any training for it.
        SUPERNET_TRAINING: The one training that makes the weights which serve every schedule.
        SUPERNET: A schedule evaluated with those shared weights, untrained itself.
        FINETUNE: A schedule trained for a short while.
        RETRAIN: A schedule trained in full.
    """

    DENSE = "dense"
    UNTRAINED = "untrained"
    SUPERNET_TRAINING = "supernet_training"
    SUPERNET = "supernet"
    FINETUNE = "finetune"
    RETRAIN = "retrain"

    @property
    def is_training(self) -> bool:
        """Whether its trials train for a while; if not, each is one quick evaluation."""
        return self not in (Fidelity.UNTRAINED, Fidelity.SUPERNET)

    @property
    def training_name(self) -> str:
        """Its training in words: `dense training`, `supernet training`."""
        return f"{self.value.removesuffix('_training')} training"


class Origin(StrEnum):
    """Who proposed a trial."""

    SEARCH = "search"
    BASELINE = "baseline"
    REFERENCE = "reference"


class Cost(Value):
    """What one image costs at inference.

    Attributes:
        macs: Multiply-adds of linear layers, convolutions and matrix products.
        params: Parameters, predictors included.
        latency_ms: Measured milliseconds of a call on the study's target, or None if not measured.
        predicted_ms: The same as a profile of the target predicts it, or None without a profile.
    """

    macs: int
    params: int
    latency_ms: float | None = None
    predicted_ms: float | None = None

    @property
    def ms(self) -> float | None:
        """Milliseconds on the target: measured if they were, else predicted, None if neither."""
        return self.predicted_ms if self.latency_ms is None else self.latency_ms

    def along(self, axis: Axis) -> float | None:
        """Multiply-adds, or milliseconds; None if not known."""
        return self.macs if axis == "macs" else self.ms


class Measurement(Value):
    """What was measured after `step` epochs of a trial.

    Attributes:
        step: Epochs done, counted from 1; 0 for an evaluation without training.
        attempt: The attempt that reported it.
        fidelity: How the numbers were obtained.
        metrics: Name to value, accuracies as fractions in [0, 1].
        seconds: Wall-clock time of this epoch (a clock; not part of a result).
        seed: Seed the numbers depend on.
    """

    step: int = Field(ge=0)
    attempt: int = Field(ge=1)
    fidelity: Fidelity
    metrics: dict[str, float]
    seconds: float
    seed: int


class CheckpointRef(Value):
    """A checkpoint outside the database: where it is and what its bytes hash to."""

    uri: str
    sha256: str
    step: int = Field(ge=0)


class Proposal(Value):
    """How a search proposal came about, so that it can be asked again.

    Attributes:
        index: Position in the sequence of proposals of the study.
        seed: Seed derived from (study seed, index).
        seen: Numbers of the trials whose results the sampler had been told.
        params: The flat parameters in the sampler's space, after canonicalisation.
        system_attrs: What the sampler wants to remember with the trial.
    """

    index: int
    seed: int
    seen: tuple[int, ...]
    params: dict[str, int | float | str]
    system_attrs: dict[str, object] = Field(default_factory=dict)


class NewTrial(Value):
    """A trial before the store has given it a state.

    Attributes:
        number: Position in the study, from 0; also the idempotency key of adding it.
        fidelity: At what fidelity it is to be evaluated.
        origin: Who proposed it.
        label: Short name for people: `dense`, `rho at 3,6,9`, `search`.
        schedule: What is to be evaluated.
        key: The schedule's fingerprint for its backbone.
        cost: Its closed-form cost.
        seed: Seed of its training and evaluation.
        parent: Number of the trial it continues (a fine-tuning of a supernet evaluation), or None.
        proposal: How the sampler came to it, or None.
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
        state: Where it is in its life.
        attempt: Current attempt, 0 before the first claim; the fencing token of every write.
        reason: Why it was stopped or failed, or why its last attempt had to be repeated; or None.
        measurements: What was measured, by step.
        checkpoint: Its newest checkpoint, or None.
        confirmed: Its latency as measured on the study's target, or None as long as it is predicted only.
    """

    study: str
    state: TrialState = TrialState.WAITING
    attempt: int = 0
    reason: str | None = None
    measurements: tuple[Measurement, ...] = ()
    checkpoint: CheckpointRef | None = None
    confirmed: ConfirmedLatency | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the last measurement, or nothing."""
        return self.measurements[-1].metrics if self.measurements else {}

    @property
    def epochs_done(self) -> int:
        """Epochs that are measured."""
        return self.measurements[-1].step if self.measurements else 0

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


class TrialTimes(Value):
    """When a trial happened, in seconds since 1970. Clocks are no part of a result.

    Attributes:
        started_at: When it was first claimed, or None.
        ended_at: When it reached a final state, or None.
        measured_at: Step to when its measurement was recorded.
    """

    started_at: float | None = None
    ended_at: float | None = None
    measured_at: dict[int, float] = Field(default_factory=dict)


class StudyTimes(Value):
    """When a study happened. Its name and `created_at` tell it from an older study of the same name.

    Attributes:
        created_at: When it was created, in seconds since 1970.
        trials: Number to the times of a trial.
    """

    created_at: float
    trials: dict[int, TrialTimes] = Field(default_factory=dict)


FinalState = Literal[TrialState.COMPLETE, TrialState.STOPPED, TrialState.FAILED, TrialState.REFERENCE]
