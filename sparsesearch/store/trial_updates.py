"""Write changed trials, in a transaction in which nobody else writes to their study."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection

from sparsesearch.store import codec, transitions
from sparsesearch.store import writer_statements as sql
from sparsesearch.store.trial_queries import load_trials
from sparsesearch.study.metric import Metric
from sparsesearch.study.trial import Trial, TrialState

Pair = tuple[Trial, Trial]
"""A trial before and after a change."""


def changed(pairs: Iterable[Pair]) -> list[Pair]:
    """Return the pairs whose trials differ."""
    return [(before, after) for before, after in pairs if after is not before]


def last_change(connection: Connection, study_id: int) -> int:
    """Return the number of the last change of a trial of a study; 0 if there was none."""
    number: int = connection.execute(sql.LAST_CHANGE, {"the_study": study_id}).scalar_one()
    return number


def save_trials(
    connection: Connection, pairs: Sequence[Pair], study_id: int, *, metric: Metric, changes: Sequence[int], now: float
) -> None:
    """Write trials that changed.

    Args:
        connection: The transaction.
        pairs: The trials, each before and after.
        study_id: Id of their study.
        metric: What the study maximises or minimises.
        changes: Numbers of the changes, one for each pair, larger than all before.
        now: Unix time.
    """
    updates: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    measurements = []
    for (before, after), change in zip(pairs, changes, strict=True):
        old, new = codec.progress_to_row(before), codec.progress_to_row(after)
        values = {name: value for name, value in new.items() if value != old[name]}
        values["updated_at"] = now
        values["change"] = change
        if before.state is TrialState.WAITING and after.state is not before.state:
            values["started_at"] = now
        if after.state.is_final and not before.state.is_final:
            values["ended_at"] = now
        if after.measurements != before.measurements:
            values["score"] = codec.score_of(after, metric)
        where = {"the_study": study_id, "the_number": after.number}
        updates[tuple(values)].append({**values, **where})
        known = {measurement.step for measurement in before.measurements}
        measurements += [
            {**codec.measurement_to_row(item, number=after.number), "study_id": study_id, "created_at": now}
            for item in after.measurements
            if item.step not in known
        ]
    for columns, rows in updates.items():
        sql.update_trial(columns).run_all(connection, rows)
    if measurements:
        sql.ADD_MEASUREMENT.run_all(connection, measurements)


def retry_failed(connection: Connection, row: codec.Row, *, number: int | None = None, now: float) -> list[Trial]:
    """Mark failed trials of a study as RUNNING at another attempt; their measurements and checkpoints are kept.

    Args:
        connection: A transaction that has locked the lease of the study, which no process has.
        row: The row of the study.
        number: The trial; None for all that have failed.
        now: Unix time.

    Returns:
        The trials.
    """
    spec = codec.study_from_row(row)
    failed = load_trials(connection, row["id"], study=spec.name, states={TrialState.FAILED})
    pairs = [
        (trial, transitions.retried(trial, reason=f"retried after: {trial.reason}"))
        for trial in failed
        if number in (None, trial.number)
    ]
    first = last_change(connection, row["id"]) + 1
    changes = range(first, first + len(pairs))
    save_trials(connection, pairs, row["id"], metric=spec.metric, changes=changes, now=now)
    return [after for _, after in pairs]
