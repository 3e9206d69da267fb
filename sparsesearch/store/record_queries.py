"""The queries that read studies from a SQL database; each is answered from an index."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, case, func, select

from sparsesearch.store import tables
from sparsesearch.study.trial import Axis, Origin, TrialState

_TRIALS, _MEASUREMENTS = tables.trials.c, tables.measurements.c
_OURS = _TRIALS.study_id == bindparam("study")
_UNFINISHED = _TRIALS.state.in_([state.value for state in TrialState if not state.is_final])
_ENDED_LAST = (func.coalesce(_TRIALS.ended_at, _TRIALS.started_at, 0.0).desc(), _TRIALS.number)

COUNTS = select(_TRIALS.state, _TRIALS.fidelity, func.count()).where(_OURS).group_by(_TRIALS.state, _TRIALS.fidelity)
NUM_RETRIED = select(func.count()).where(_OURS, _TRIALS.attempt > 1)
LAST_RETRIED = select(_TRIALS.number).where(_OURS, _TRIALS.attempt > 1).order_by(*_ENDED_LAST).limit(1)
LAST_FAILED = (
    select(_TRIALS.number).where(_OURS, _TRIALS.state == TrialState.FAILED.value).order_by(*_ENDED_LAST).limit(1)
)
LAST_ENDED_AT = select(func.max(_TRIALS.ended_at)).where(_OURS)
LAST_STARTED_AT = select(func.max(_TRIALS.started_at)).where(_OURS, _UNFINISHED)
LAST_MEASURED_AT = (
    select(func.max(_MEASUREMENTS.created_at))
    .select_from(tables.trials.join(tables.measurements))
    .where(_OURS, _UNFINISHED)
)
_MS = func.coalesce(_TRIALS.latency_ms, _TRIALS.predicted_ms)
_COSTS: dict[Axis, ColumnElement[Any]] = {"macs": _TRIALS.macs, "ms": _MS}


def _candidates(*columns: ColumnElement[Any], axis: Axis) -> Select[Any]:
    return select(*columns).where(
        _OURS,
        _TRIALS.state == TrialState.COMPLETE.value,
        _TRIALS.fidelity == bindparam("fidelity"),
        _TRIALS.score.is_not(None),
        _COSTS[axis].is_not(None),
    )


def _front(axis: Axis) -> Select[Any]:
    """The trials whose score is above that of all trials that are cheaper, or as cheap and as good but older."""
    by_cost = (_COSTS[axis], _TRIALS.score.desc(), _TRIALS.number)
    cheaper = func.max(_TRIALS.score).over(order_by=by_cost, rows=(None, -1)).label("cheaper")
    columns = (_TRIALS.number, _TRIALS.score, _COSTS[axis].label("cost"), cheaper)
    ordered = _candidates(*columns, axis=axis).subquery()
    is_better = ordered.c.cheaper.is_(None) | (ordered.c.score > ordered.c.cheaper)
    return select(ordered.c.number).where(is_better).order_by(ordered.c.cost)


FRONTS: dict[Axis, Select[Any]] = {"macs": _front("macs"), "ms": _front("ms")}
# `+ 0`: otherwise the numbers are searched from the lowest, which reads a whole study that has no such trial.
PROPOSALS: dict[Axis, Select[Any]] = {
    axis: _candidates(func.min(_TRIALS.number + 0), axis=axis).where(_TRIALS.origin == Origin.SEARCH.value)
    for axis in _COSTS
}
_SUMS = (
    select(
        _MEASUREMENTS.number,
        func.max(_MEASUREMENTS.created_at).label("measured_at"),
        func.count(case((_MEASUREMENTS.step > 0, 1))).label("epochs"),
        func.sum(_MEASUREMENTS.seconds).label("seconds"),
    )
    .where(_MEASUREMENTS.study_id == bindparam("study"))
    .group_by(_MEASUREMENTS.number)
    .subquery()
)
ROWS = (
    select(
        *(_TRIALS[name] for name in ("number", "fidelity", "origin", "state", "parent", "score", "macs")),
        _MS,
        _TRIALS.started_at,
        _TRIALS.ended_at,
        _SUMS.c.measured_at,
        func.coalesce(_SUMS.c.epochs, 0),
        func.coalesce(_SUMS.c.seconds, 0.0),
    )
    .select_from(tables.trials.outerjoin(_SUMS, _TRIALS.number == _SUMS.c.number))
    .where(_OURS)
    .order_by(_TRIALS.number)
)
SPANS = (
    select(_MEASUREMENTS.step, _MEASUREMENTS.seconds, _MEASUREMENTS.created_at)
    .where(_MEASUREMENTS.study_id == bindparam("study"), _MEASUREMENTS.fidelity == bindparam("fidelity"))
    .order_by(_MEASUREMENTS.number, _MEASUREMENTS.step)
)
HITS = (
    select(tables.hits)
    .where(tables.hits.c.study_id == bindparam("study"), tables.hits.c.number.in_(bindparam("numbers", expanding=True)))
    .order_by(tables.hits.c.number)
)
SUMMARIES = (
    select(
        _TRIALS.study_id,
        _TRIALS.state,
        _TRIALS.fidelity,
        _TRIALS.origin,
        func.count().label("num"),
        func.max(_TRIALS.score).label("macs"),
        func.max(case((_MS.is_not(None), _TRIALS.score))).label("ms"),
    )
    .where(_TRIALS.study_id.between(bindparam("first"), bindparam("last")))
    .group_by(_TRIALS.study_id, _TRIALS.state, _TRIALS.fidelity, _TRIALS.origin)
)
LEASES = select(tables.leases).where(tables.leases.c.study_id.between(bindparam("first"), bindparam("last")))
