"""Load trials with their measurements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select

from sparsesearch.store import codec, tables
from sparsesearch.study.trial import Trial, TrialState

_MOST_NUMBERS = 10_000  # in one statement; SQLite takes 32,766 parameters


def load_trials(
    connection: Connection,
    study_id: int,
    *,
    study: str,
    states: Collection[TrialState] | None = None,
    numbers: Collection[int] | None = None,
    offset: int = 0,
    limit: int | None = None,
) -> list[Trial]:
    """Load trials in order of their numbers, with two queries for thousands of them.

    Args:
        connection: An open transaction.
        study_id: Id of the study.
        study: Name of the study.
        states: Load only trials in these states.
        numbers: Load only trials with these numbers.
        offset: Skip this many.
        limit: Load at most this many.
    """
    if offset or limit is not None:
        query = select(tables.trials.c.number).where(tables.trials.c.study_id == study_id)
        if states is not None:
            query = query.where(tables.trials.c.state.in_([state.value for state in states]))
        if numbers is not None:
            query = query.where(tables.trials.c.number.in_(numbers))
        numbers = list(connection.scalars(query.order_by(tables.trials.c.number).offset(offset).limit(limit)))
        states = None
    if numbers is None:
        return _load(connection, {"the_study": study_id}, study=study, states=states)
    ordered, trials = sorted(set(numbers)), []
    for first in range(0, len(ordered), _MOST_NUMBERS):
        part = {"the_study": study_id, "the_numbers": ordered[first : first + _MOST_NUMBERS]}
        trials += _load(connection, part, study=study, states=states)
    return trials


def _load(
    connection: Connection, wanted: dict[str, Any], *, study: str, states: Collection[TrialState] | None
) -> list[Trial]:
    if states is not None:
        wanted["the_states"] = [state.value for state in states]
    select_trials, select_measurements = _selects(by_number="the_numbers" in wanted, by_state=states is not None)
    measurements: dict[int, list[codec.Row]] = defaultdict(list)
    for row in connection.execute(select_measurements, wanted).mappings():
        measurements[row["number"]].append(row)
    rows = connection.execute(select_trials, wanted).mappings()
    return [codec.trial_from_row(row, measurements[row["number"]], study=study) for row in rows]


@cache
def _selects(*, by_number: bool, by_state: bool) -> tuple[Select[Any], Select[Any]]:
    """Return the queries for trials and for their measurements."""
    trials, measurements = tables.trials, tables.measurements
    select_trials = select(trials).where(trials.c.study_id == bindparam("the_study"))
    select_measurements = select(measurements).where(measurements.c.study_id == bindparam("the_study"))
    if by_number:
        select_trials = select_trials.where(trials.c.number.in_(bindparam("the_numbers", expanding=True)))
        select_measurements = select_measurements.where(
            measurements.c.number.in_(bindparam("the_numbers", expanding=True))
        )
    if by_state:
        select_trials = select_trials.where(trials.c.state.in_(bindparam("the_states", expanding=True)))
        select_measurements = select_measurements.where(
            measurements.c.number.in_(select_trials.with_only_columns(trials.c.number))
        )
    return (
        select_trials.order_by(trials.c.number),
        select_measurements.order_by(measurements.c.number, measurements.c.step),
    )
