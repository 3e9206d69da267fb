"""The statements of the queue of submitted studies."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Double, ScalarSelect, Select, bindparam, func, or_, select, update

from sparsesearch.store import tables
from sparsesearch.store.service_tables import submissions
from sparsesearch.study.state import StudyState

_ACTIVE = [state.value for state in StudyState if state.is_active]

UNDER_WAY = (
    select(tables.studies.c.name)
    .join(submissions)
    .where(tables.studies.c.state.in_(_ACTIVE))
    .order_by(tables.studies.c.id)
)
WAITING = (
    select(tables.studies.c.name, submissions)
    .join(submissions)
    .where(tables.studies.c.state == StudyState.QUEUED.value)
)
RUNNING_BY_OWNER = (
    select(submissions.c.owner, func.count())
    .join(tables.studies)
    .where(tables.studies.c.state.in_(_ACTIVE))
    .group_by(submissions.c.owner)
)
HAS_MEASURED = (
    select(tables.measurements.c.number)
    .where(tables.measurements.c.study_id == bindparam("the_study"))
    .where(tables.measurements.c.created_at > bindparam("since", type_=Double))
    .limit(1)
)


def _running_of_owner() -> ScalarSelect[int]:
    """How many studies of the same owner are under way."""
    others, studies = submissions.alias("others"), tables.studies.alias("running")
    return (
        select(func.count())
        .select_from(others.join(studies, studies.c.id == others.c.study_id))
        .where(others.c.owner == submissions.c.owner, studies.c.state.in_(_ACTIVE))
        .scalar_subquery()
    )


def next_study() -> Select[tuple[int]]:
    """The study that is to be taken next; not one whose process has given it back, and is about to end."""
    leases, now = tables.leases.c, bindparam("now", type_=Double)
    return (
        select(tables.studies.c.id)
        .join(submissions)
        .join(tables.leases, leases.study_id == tables.studies.c.id)
        .where(tables.studies.c.state == StudyState.QUEUED.value, submissions.c.not_before <= now)
        .where(or_(leases.owner.is_(None), leases.expires_at <= now))
        .order_by(submissions.c.priority.desc(), _running_of_owner(), submissions.c.submitted_at, tables.studies.c.id)
        .limit(1)
    )


def _take(query: Select[tuple[int]]) -> Any:
    values = {"state": StudyState.RESOLVING.value, "reason": None, "request": None}
    taken = update(tables.studies).where(tables.studies.c.id == query.scalar_subquery()).values(**values)
    return taken.returning(tables.studies.c.id, tables.studies.c.name)


TAKE = {
    True: _take(next_study()),  # SQLite write transactions are exclusive
    False: _take(next_study().with_for_update(skip_locked=True, of=[tables.studies, submissions, tables.leases])),
}
CLAIMED = select(tables.studies.c.name).join(tables.leases).where(tables.leases.c.owner == bindparam("the_owner"))
