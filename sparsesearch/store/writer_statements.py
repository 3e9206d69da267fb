"""The statements of a writer. Those about the lease change nothing unless its owner is still the one given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from sqlalchemy import Table, bindparam, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from sparsesearch.store import tables
from sparsesearch.store.moment import SERVER_TIME
from sparsesearch.store.prepared import Prepared, rows_of_json

_OURS = (
    tables.leases.c.study_id == bindparam("the_study"),
    tables.leases.c.owner == bindparam("the_owner"),
    tables.leases.c.generation == bindparam("the_generation"),
)
_ACTIVE_S = tables.leases.c.active_s + bindparam("steady") - (tables.leases.c.steady_until - bindparam("lease_s"))
_STEADY = {"steady_until": bindparam("steady_until"), "active_s": _ACTIVE_S}
EXTEND = Prepared(update(tables.leases).where(*_OURS).values(expires_at=bindparam("until"), **_STEADY))
EXTEND_BY_SERVER = Prepared(
    update(tables.leases)
    .where(*_OURS)
    .values(expires_at=SERVER_TIME + bindparam("lease_s"), **_STEADY)
    .returning(tables.leases.c.expires_at)
)
RELEASE = (
    update(tables.leases).where(*_OURS).values(owner=None, expires_at=bindparam("now"), work=None, active_s=_ACTIVE_S)
)
SHOW_WORK = update(tables.leases).where(*_OURS).values(work=bindparam("the_work"))
_THE_STUDY = tables.studies.c.id == bindparam("the_study")
FIND_STUDY = select(tables.studies).where(_THE_STUDY)
FIND_REQUEST = select(tables.studies.c.request).join(tables.leases).where(*_OURS)
SET_SPEC = update(tables.studies).where(_THE_STUDY).values(spec=bindparam("the_spec"))
LAST_CHANGE = select(func.coalesce(func.max(tables.trials.c.change), 0)).where(
    tables.trials.c.study_id == bindparam("the_study")
)
STATISTICS_ARE_MISSING = text("SELECT reltuples < 1 FROM pg_class WHERE oid = CAST('trials' AS regclass)")
UPDATE_STATISTICS = text("ANALYZE trials")
FIND_DUPLICATE = select(tables.trials.c.number).where(
    tables.trials.c.study_id == bindparam("the_study"),
    tables.trials.c.key == bindparam("key"),
    tables.trials.c.fidelity == bindparam("fidelity"),
    tables.trials.c.seed == bindparam("seed"),
)
_LATER = {"started_at", "ended_at", "score"}
_NEW_COLUMNS = [column.name for column in tables.trials.columns if column.name not in _LATER]
_Insert = sqlite.Insert | postgresql.Insert


def _addition(new: Callable[[Table], _Insert], table: Table, columns: Sequence[str]) -> Prepared:
    """Insert rows; those that are there already are left as they are."""
    given = rows_of_json({name: table.c[name] for name in columns})
    of_json = postgresql.insert(table).from_select(columns, select(given)).on_conflict_do_nothing()
    return Prepared(new(table).on_conflict_do_nothing(), columns=columns, of_json=of_json)


ADD_TO_SQLITE = _addition(sqlite.insert, tables.trials, _NEW_COLUMNS)
ADD_TO_POSTGRES = _addition(postgresql.insert, tables.trials, _NEW_COLUMNS)
ADD_HITS_TO_SQLITE = _addition(sqlite.insert, tables.hits, tables.hits.columns.keys())
ADD_HITS_TO_POSTGRES = _addition(postgresql.insert, tables.hits, tables.hits.columns.keys())
_MEASURED = rows_of_json(dict(tables.measurements.columns))
ADD_MEASUREMENT = Prepared(
    insert(tables.measurements),
    of_json=insert(tables.measurements).from_select(tables.measurements.columns.keys(), select(_MEASURED)),
)


@cache
def update_trial(columns: tuple[str, ...]) -> Prepared:
    """Set some columns of a trial, which are parameters of their names."""
    table = tables.trials.c
    ours = (table.study_id == bindparam("the_study"), table.number == bindparam("the_number"))
    given = rows_of_json(
        {**{name: table[name] for name in columns}, "the_study": table.study_id, "the_number": table.number}
    )
    same = (table.study_id == given.c.the_study, table.number == given.c.the_number)
    return Prepared(
        update(tables.trials).where(*ours).values({name: bindparam(name) for name in columns}),
        of_json=update(tables.trials).where(*same).values({name: given.c[name] for name in columns}),
    )
