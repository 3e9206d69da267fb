"""The statements of a writer. Those about the lease change nothing unless its owner is still the one given."""

from __future__ import annotations

from functools import cache

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from sparsesearch.store import tables
from sparsesearch.store.moment import SERVER_TIME
from sparsesearch.store.prepared import Prepared

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
SET_CONDITION = (
    update(tables.studies)
    .where(_THE_STUDY)
    .values(state=bindparam("the_state"), reason=bindparam("the_reason"), request=bindparam("the_request"))
)
SET_SPEC = update(tables.studies).where(_THE_STUDY).values(spec=bindparam("the_spec"))
FIND_DUPLICATE = select(tables.trials.c.number).where(
    tables.trials.c.study_id == bindparam("the_study"),
    tables.trials.c.key == bindparam("key"),
    tables.trials.c.fidelity == bindparam("fidelity"),
    tables.trials.c.seed == bindparam("seed"),
)
_LATER = {"started_at", "ended_at", "score"}
_NEW_COLUMNS = [column.name for column in tables.trials.columns if column.name not in _LATER]
ADD_TO_SQLITE = Prepared(sqlite.insert(tables.trials).on_conflict_do_nothing(), columns=_NEW_COLUMNS)
ADD_TO_POSTGRES = Prepared(postgresql.insert(tables.trials).on_conflict_do_nothing(), columns=_NEW_COLUMNS)
ADD_MEASUREMENT = Prepared(insert(tables.measurements))
ADD_HITS_TO_SQLITE = Prepared(sqlite.insert(tables.hits).on_conflict_do_nothing())
ADD_HITS_TO_POSTGRES = Prepared(postgresql.insert(tables.hits).on_conflict_do_nothing())


@cache
def update_trial(columns: tuple[str, ...]) -> Prepared:
    """Set some columns of a trial, which are parameters of their names."""
    table = tables.trials.c
    ours = (table.study_id == bindparam("the_study"), table.number == bindparam("the_number"))
    return Prepared(update(tables.trials).where(*ours).values({name: bindparam(name) for name in columns}))
