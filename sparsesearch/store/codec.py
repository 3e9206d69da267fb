"""Convert values to database rows and back.

Documents are JSON text with sorted keys and no spaces, so equal values give equal bytes. Floats are written in their
shortest exact form; NaN and infinities are written `NaN`, `Infinity` and `-Infinity`, as in Python and JSON5.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from sparsesearch.errors import StoreVersionError, one_line
from sparsesearch.schedule import Schedule
from sparsesearch.store.lease import Lease
from sparsesearch.store.moment import Moment
from sparsesearch.study.hits import Hits
from sparsesearch.study.latency_record import ConfirmedLatency
from sparsesearch.study.metric import Metric
from sparsesearch.study.progress import WorkProgress
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StudyCondition
from sparsesearch.study.trial import CheckpointRef, Cost, Measurement, NewTrial, Proposal, Trial, TrialState

_Model = TypeVar("_Model", bound=BaseModel)
_LARGEST_INTEGER = 2**63 - 1


class Row(Protocol):
    """A row of any store: values by column name."""

    def __getitem__(self, column: str, /) -> Any:
        """Return the value of a column."""


def study_to_row(spec: StudySpec) -> dict[str, Any]:
    """Return the columns of `studies`, except id and timestamps."""
    return {"name": spec.name, "spec": _document(spec.model_dump(), what=f"study {spec.name!r}")}


def study_from_row(row: Row) -> StudySpec:
    """Return the document of a study.

    Raises:
        StoreVersionError: This version cannot read it.
    """
    return _read(StudySpec, row["spec"], what=f"study {row['name']!r}")


def condition_to_row(condition: StudyCondition) -> dict[str, Any]:
    """Return the columns of `studies` that change while a study runs."""
    return {
        "state": condition.state.value,
        "reason": None if condition.reason is None else storable_text(condition.reason),
        "request": None if condition.request is None else condition.request.value,
    }


def condition_from_row(row: Row, *, lease: Lease | None, now: Moment) -> StudyCondition:
    """Return the condition of a study from its row and its lease.

    Raises:
        StoreVersionError: This version cannot read it.
    """
    what = f"study {row['name']!r}"
    is_leased = lease is not None and lease.is_leased(now=now)
    work = () if lease is None or lease.work is None or not is_leased else _values(lease.work, what=what)
    fields = {"state": row["state"], "reason": row["reason"], "request": row["request"]}
    return _parse(StudyCondition, {**fields, "is_leased": is_leased, "work": work}, what=what)


def work_to_text(work: Iterable[WorkProgress]) -> str:
    """Return the column `work` of `leases`."""
    return _document([item.model_dump() for item in work], what="the progress of the trainings")


def trial_to_row(trial: Trial) -> dict[str, Any]:
    """Return the columns of `trials`, except study id and timestamps.

    Raises:
        ValueError: The trial contains a value that a database cannot store.
    """
    what = f"trial {trial.number} of study {trial.study!r}"
    proposal = None if trial.proposal is None else _document(trial.proposal.model_dump(), what=what)
    return {
        **progress_to_row(trial),
        "number": trial.number,
        "fidelity": trial.fidelity.value,
        "origin": trial.origin.value,
        "label": storable_text(trial.label),
        "key": _exact(trial.key, what=what),
        "seed": _integer(trial.seed, what=what),
        "parent": trial.parent,
        "budget_macs": None if trial.budget_macs is None else _integer(trial.budget_macs, what=what),
        "macs": _integer(trial.cost.macs, what=what),
        "params": _integer(trial.cost.params, what=what),
        "predicted_ms": None if trial.cost.predicted_ms is None else _finite(trial.cost.predicted_ms, what=what),
        "schedule": _document(trial.schedule.model_dump(), what=what),
        "proposal": proposal,
    }


def progress_to_row(trial: Trial) -> dict[str, Any]:
    """Return the columns of `trials` that change during a trial's life, except timestamps.

    Raises:
        ValueError: The trial contains a value that a database cannot store.
    """
    what = f"trial {trial.number} of study {trial.study!r}"
    checkpoint, confirmed = trial.checkpoint, trial.confirmed
    return {
        "state": trial.state.value,
        "attempt": trial.attempt,
        "reason": None if trial.reason is None else storable_text(trial.reason),
        "checkpoint_uri": None if checkpoint is None else _exact(checkpoint.uri, what=what),
        "checkpoint_sha256": None if checkpoint is None else _exact(checkpoint.sha256, what=what),
        "checkpoint_step": None if checkpoint is None else checkpoint.step,
        "latency_ms": None if trial.cost.latency_ms is None else _finite(trial.cost.latency_ms, what=what),
        "confirmed": None if confirmed is None else _document(confirmed.model_dump(), what=what),
    }


def score_of(trial: Trial, metric: Metric) -> float | None:
    """Return the column `score` of `trials`: the metric to maximise; None if it was not measured, or is not finite."""
    score = metric.score(trial.metrics)
    return score if math.isfinite(score) else None


def trial_from_row(row: Row, measurements: Iterable[Row], *, study: str) -> Trial:
    """Return a trial with its measurements, which are given in order of their steps.

    Raises:
        StoreVersionError: This version cannot read it.
    """
    what = f"trial {row['number']} of study {study!r}"
    proposal = None if row["proposal"] is None else _read(Proposal, row["proposal"], what=what)
    checkpoint = None
    if row["checkpoint_uri"] is not None:
        checkpoint = CheckpointRef(
            uri=row["checkpoint_uri"], sha256=row["checkpoint_sha256"], step=row["checkpoint_step"]
        )
    fields = {
        "study": study,
        "number": row["number"],
        "state": row["state"],
        "attempt": row["attempt"],
        "fidelity": row["fidelity"],
        "origin": row["origin"],
        "label": row["label"],
        "key": row["key"],
        "seed": row["seed"],
        "parent": row["parent"],
        "budget_macs": row["budget_macs"],
        "cost": Cost(
            macs=row["macs"], params=row["params"], latency_ms=row["latency_ms"], predicted_ms=row["predicted_ms"]
        ),
        "schedule": _read(Schedule, row["schedule"], what=what),
        "proposal": proposal,
        "reason": row["reason"],
        "checkpoint": checkpoint,
        "confirmed": None if row["confirmed"] is None else _read(ConfirmedLatency, row["confirmed"], what=what),
        "measurements": tuple(measurement_from_row(item, what=what) for item in measurements),
    }
    return _parse(Trial, fields, what=what)


def measurement_to_row(measurement: Measurement, *, number: int) -> dict[str, Any]:
    """Return the columns of `measurements`, except study id and timestamps.

    Raises:
        ValueError: The measurement contains a value that a database cannot store.
    """
    what = f"step {measurement.step} of trial {number}"
    return {
        "number": number,
        "step": measurement.step,
        "attempt": measurement.attempt,
        "fidelity": measurement.fidelity.value,
        "metrics": _document(measurement.metrics, what=what),
        "seconds": _finite(measurement.seconds, what=what),
        "seed": _integer(measurement.seed, what=what),
    }


def measurement_from_row(row: Row, *, what: str) -> Measurement:
    """Return a measurement; `what` names its trial in error messages.

    Raises:
        StoreVersionError: This version cannot read it.
    """
    fields = {name: row[name] for name in ("step", "attempt", "fidelity", "seconds", "seed")}
    return _parse(Measurement, {**fields, "metrics": _values(row["metrics"], what=what)}, what=what)


def hits_to_row(hits: Hits, *, study_id: int, number: int) -> dict[str, Any]:
    """Return a row of `hits`."""
    return {**hits.model_dump(), "study_id": study_id, "number": number}


def hits_from_row(row: Row, *, study: str) -> Hits:
    """Return the hits of a trial.

    Raises:
        StoreVersionError: This version cannot read them.
    """
    fields = {name: row[name] for name in Hits.model_fields}
    return _parse(Hits, fields, what=f"the hits of trial {row['number']} of study {study!r}")


def is_stored(found: Trial, wanted: Trial) -> bool:
    """Whether a trial in a database is as it was to be written; a NaN in it is equal to itself."""
    steps = [[item.step for item in trial.measurements] for trial in (found, wanted)]
    return progress_to_row(found) == progress_to_row(wanted) and steps[0] == steps[1]


def stored(trial: Trial) -> Trial:
    """Return a trial as it reads after being written: tuples in sampler attributes become lists.

    Raises:
        ValueError: The trial contains a value that a database cannot store.
    """
    rows = [measurement_to_row(item, number=trial.number) for item in trial.measurements]
    return trial_from_row(trial_to_row(trial), rows, study=trial.study)


def new_trial(trial: NewTrial, *, study: str) -> tuple[Trial, dict[str, Any]]:
    """Return the trial that results from adding `trial` to a study, and its row.

    Raises:
        ValueError: The trial contains a value that a database cannot store.
    """
    fields = {name: getattr(trial, name) for name in NewTrial.model_fields}
    row = trial_to_row(Trial(**fields, study=study, state=TrialState.WAITING))
    return trial_from_row(row, (), study=study), row


def storable_text(text: str) -> str:
    """Replace the characters that databases reject: NUL and unpaired surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _document(value: object, *, what: str) -> str:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{what} is not plain data ({one_line(error)}); use numbers, strings, lists and dicts"
        ) from error


def _values(text: str, *, what: str) -> object:
    try:
        values: object = json.loads(text)
    except ValueError as error:
        raise _version_error(what, error) from error
    return values


def _read(model: type[_Model], text: str, *, what: str) -> _Model:
    return _parse(model, _values(text, what=what), what=what)


def _parse(model: type[_Model], fields: object, *, what: str) -> _Model:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _version_error(what, error) from error


def _version_error(what: str, error: ValueError) -> StoreVersionError:
    return StoreVersionError(
        f"{what} cannot be read by this version of sparsesearch ({one_line(error)}); use the version that wrote it"
    )


def _exact(text: str, *, what: str) -> str:
    if storable_text(text) != text:
        raise ValueError(f"{what} contains {text!r}, which cannot be stored; use text without NUL and surrogates")
    return text


def _integer(value: int, *, what: str) -> int:
    if not -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER:
        raise ValueError(f"{what} contains the integer {value}, which exceeds 63 bits; use a smaller integer")
    return value


def _finite(value: float, *, what: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{what} contains a time of {value}; times must be finite numbers")
    return value
