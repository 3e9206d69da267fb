"""The runs of a study in MLflow, as plain values: one for the study, one for each training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from types import MappingProxyType
from typing import Literal

from sparsesearch.analysis.view import StudyView
from sparsesearch.analysis.words import found_by
from sparsesearch.study.spec import Resolved, StudySpec, TrainSpec
from sparsesearch.study.trial import Fidelity, Origin, Trial, TrialState
from sparsesearch.tracking.note import study_note, trial_note
from sparsesearch.tracking.progress_metrics import Point, milliseconds, progress_points

FORMAT = "4"
"""Version of the format of runs: incrementing it updates all runs at the next sync."""

STUDY_KEY = ""
NO_LABELS: Mapping[str, str] = MappingProxyType({})
STUDY_TAG = "sparsesearch.study"
CREATED_TAG = "sparsesearch.created"
TRIAL_TAG = "sparsesearch.trial"
SYNCED_TAG = "sparsesearch.synced"
FILES_TAG = "sparsesearch.files"
STUDY_LABEL, TRIAL_LABEL, STATE_LABEL, FIDELITY_LABEL, ORIGIN_LABEL = "study", "trial", "state", "fidelity", "origin"
WARNING_LABEL = "warning"
OLD_SYNCED_TAG = "sparsesearch.mirrored"
OLD_TAGS = (
    OLD_SYNCED_TAG,
    "sparsesearch.state",
    "sparsesearch.fidelity",
    "sparsesearch.found_by",
    "sparsesearch.warning",
)
"""Tags of runs up to format 3, which are replaced at the next sync."""

Status = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]

_STATUS: Mapping[TrialState, Status] = {
    TrialState.RUNNING: "RUNNING",
    TrialState.FAILED: "FAILED",
    TrialState.STOPPED: "FINISHED",
    TrialState.COMPLETE: "FINISHED",
    TrialState.REFERENCE: "FINISHED",
}


@dataclass(frozen=True)
class RunRecord:
    """The desired state of a run in MLflow.

    Attributes:
        name: Display name.
        identity: Tags that identify the run, set when it is created.
        tags: Other tags.
        params: Parameters, which never change.
        metrics: Metrics, to which points are only added.
        status: MLflow status of the run.
        start_ms: Start time, in milliseconds since 1970.
        end_ms: End time, None while it runs.
    """

    name: str
    identity: Mapping[str, str]
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: tuple[Point, ...]
    status: Status
    start_ms: int
    end_ms: int | None

    @cached_property
    def digest(self) -> str:
        """A digest that is equal for equal records."""
        content = [str(getattr(self, field.name)) for field in fields(self)]
        return hashlib.sha256(json.dumps([FORMAT, *content]).encode()).hexdigest()[:16]


def identity(view: StudyView) -> dict[str, str]:
    """Return the tags of all runs of a study: its name, and its creation time, since names can be reused."""
    return {STUDY_TAG: view.spec.name, CREATED_TAG: repr(view.times.created_at)}


def records_of(
    view: StudyView, *, is_live: bool, labels: Mapping[str, str] = NO_LABELS
) -> Iterator[tuple[str, RunRecord]]:
    """Yield all runs that MLflow should have, by key: the study's first, then those of trials by number.

    Args:
        view: The study.
        is_live: Whether a controller is running it.
        labels: Further tags of the study.
    """
    yield STUDY_KEY, study_record(view, is_live=is_live, labels=labels)
    for trial in view.trained:
        yield str(trial.number), trial_record(view, trial)


def study_record(view: StudyView, *, is_live: bool, labels: Mapping[str, str] = NO_LABELS) -> RunRecord:
    """Return the run of the study itself.

    Args:
        view: The study.
        is_live: Whether a controller is running it.
        labels: Further tags.
    """
    spec = view.spec
    ends = [row.ended_at for row in view.rows if row.ended_at is not None]
    status: Status = "FINISHED"
    if is_live or view.is_under_way or view.best is None:
        failed = any(trial.state is TrialState.FAILED and trial.is_foundation for trial in view.trials)
        status = "FAILED" if failed and not is_live else "RUNNING"
    return RunRecord(
        name=spec.name,
        identity=identity(view),
        tags={
            "mlflow.note.content": study_note(view),
            STUDY_LABEL: spec.name,
            "backbone": spec.backbone,
            "budget": str(spec.budget),
            "strategy": spec.fidelity.strategy,
            "device": spec.device,
            **labels,
            **_warning_tags(view),
        },
        params=_study_params(spec),
        metrics=tuple(progress_points(view)),
        status=status,
        start_ms=milliseconds(view.times.created_at),
        end_ms=None if status == "RUNNING" else milliseconds(max(ends, default=view.times.created_at)),
    )


def trial_record(view: StudyView, trial: Trial) -> RunRecord:
    """Return the run of a training."""
    times = view.times_of(trial)
    start_ms = milliseconds(times.started_at if times.started_at is not None else view.times.created_at)
    metrics = [Point(key, value, 0, start_ms) for key, value in _cost_metrics(view, trial).items()]
    for measurement in trial.measurements:
        at = milliseconds(times.measured_at[measurement.step])
        values = {**measurement.metrics, "epoch_seconds": measurement.seconds}
        metrics += [Point(key, value, measurement.step, at) for key, value in values.items()]
    end = times.ended_at if trial.state.is_final else None
    return RunRecord(
        name=_trial_name(view, trial),
        identity={**identity(view), TRIAL_TAG: str(trial.number)},
        tags={
            "mlflow.note.content": trial_note(view, trial),
            STUDY_LABEL: view.spec.name,
            TRIAL_LABEL: str(trial.number),
            STATE_LABEL: trial.state.value,
            FIDELITY_LABEL: trial.fidelity.value,
            ORIGIN_LABEL: found_by(trial),
            **_warning_tags(view),
        },
        params=_trial_params(view, trial),
        metrics=tuple(metrics),
        status=_STATUS[trial.state],
        start_ms=start_ms,
        end_ms=None if end is None else milliseconds(end),
    )


def _trial_name(view: StudyView, trial: Trial) -> str:
    match trial.fidelity:
        case Fidelity.DENSE:
            return "dense model"
        case Fidelity.SUPERNET_TRAINING:
            return "supernet training"
        case Fidelity.COUNTS:
            return trial.label
        case _:
            baseline = f" ({found_by(trial)})" if trial.origin is Origin.BASELINE else ""
            return f"{trial.fidelity.value} {view.schedule_text(trial)}{baseline}"


def _study_params(spec: StudySpec) -> dict[str, str]:
    fidelity, resolved = spec.fidelity, spec.resolved
    space = spec.space if resolved is None else resolved.space
    located = {} if resolved is None else _space_params(resolved)
    return {
        "backbone": spec.backbone,
        "budget": str(spec.budget),
        "data": spec.data.source,
        "weights": spec.weights,
        "sampler": spec.sampler,
        "seed": str(spec.seed),
        "evaluations": str(fidelity.evaluations),
        "finalists": str(fidelity.finalists),
        "strategy": fidelity.strategy,
        "baselines": str(spec.baselines),
        "space_predictors": f"{space.min_predictors} to {space.max_predictors}",
        "space_min_keep_ratio": str(spec.space.min_keep_ratio),
        **located,
        "precision": spec.precision,
        "device": spec.device,
        "dispatcher": spec.dispatcher,
        "time_budget_s": str(spec.time_budget_s),
        "cost_rule": str(spec.cost_rule),
    }


def _space_params(resolved: Resolved) -> dict[str, str]:
    space, is_isotropic = resolved.space, len(resolved.geometry.stages) == 1
    blocks = [str(block) if is_isotropic else f"{stage}.{block}" for stage, block in space.locations]
    methods = [method.describe() for method in space.methods]
    return {"space_blocks": ",".join(blocks), "space_methods": ",".join(methods)}


def _trial_params(view: StudyView, trial: Trial) -> dict[str, str]:
    spec, resolved = view.spec, view.spec.resolved
    steps = trial.schedule.resolve(resolved.geometry) if resolved is not None else ()
    params = {
        "trial": str(trial.number),
        "fidelity": trial.fidelity.value,
        "found_by": found_by(trial),
        "backbone": spec.backbone,
        "seed": str(trial.seed),
        "schedule": view.schedule_text(trial),
        "num_predictors": str(len(steps)),
        "macs": str(trial.cost.macs),
        "params": str(trial.cost.params),
    }
    if steps:
        params["blocks"] = ",".join(str(step.block) for step in steps)
        params["tokens"] = ",".join(str(step.num_tokens) for step in steps)
        params["keep_ratios"] = ",".join(f"{step.keep_ratio:.4g}" for step in trial.schedule.steps)
    if trial.parent is not None:
        params["continues_trial"] = str(trial.parent)
    if trial.fidelity is not Fidelity.COUNTS:
        training = _training(spec, trial.fidelity)
        params.update({f"train_{name}": str(value) for name, value in training.model_dump().items()})
    return params


def _training(spec: StudySpec, fidelity: Fidelity) -> TrainSpec:
    phases = {
        Fidelity.DENSE: spec.fidelity.dense,
        Fidelity.SUPERNET_TRAINING: spec.fidelity.supernet_training,
        Fidelity.FINETUNE: spec.fidelity.finetune,
        Fidelity.RETRAIN: spec.fidelity.retrain,
    }
    return phases[fidelity]


def _cost_metrics(view: StudyView, trial: Trial) -> dict[str, float]:
    dense = next((other for other in view.trials if other.fidelity is Fidelity.DENSE), None)
    metrics = {"gmacs": trial.cost.macs / 1e9, "mparams": trial.cost.params / 1e6}
    if dense is not None:
        metrics["of_dense"] = trial.cost.macs / dense.cost.macs
    if trial.cost.latency_ms is not None:
        metrics["latency_ms"] = trial.cost.latency_ms
    if trial.cost.predicted_ms is not None:
        metrics["predicted_ms"] = trial.cost.predicted_ms
    return metrics


def _warning_tags(view: StudyView) -> dict[str, str]:
    return {WARNING_LABEL: "; ".join(view.warnings)} if view.warnings else {}
