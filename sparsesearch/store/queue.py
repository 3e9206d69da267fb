"""The queue of studies that were submitted: who takes which one, and what happens to it on the way."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import Connection, Double, ScalarSelect, Select, bindparam, func, insert, or_, select, update

from sparsesearch.store import codec, study_transitions, tables
from sparsesearch.store.audit import Actor, read_audit
from sparsesearch.store.database import Database
from sparsesearch.store.service_tables import submissions
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StopRequest, StudyCondition, StudyState
from sparsesearch.study.submission import AuditEntry, Changes, Claim, Submission

if TYPE_CHECKING:
    from sparsesearch.store.sql import SqlStore

_ACTIVE = [state.value for state in StudyState if state.is_active]
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 30.0, 1800.0


class SqlQueue:
    """The submitted studies of a store. Safe to use from several threads and processes.

    What somebody changes is written to the audit trail in the same transaction.
    """

    def __init__(self, store: SqlStore, database: Database) -> None:
        """Use a store; see `SqlStore.queue`."""
        self._store = store
        self._database = database

    def submit(self, spec: StudySpec, *, by: Actor, priority: int = 0) -> None:
        """Add a study as QUEUED. Raises `StudyExistsError` if the name exists."""

        def also(connection: Connection, study_id: int, now: float) -> None:
            values = {"study_id": study_id, "owner": by.name, "priority": priority, "submitted_at": now}
            connection.execute(insert(submissions).values(**values, not_before=0.0, num_faults=0))
            by.note(connection, "submit", spec.name, at=now, after=f"priority {priority}")

        self._store.add_queued(spec, also=also)

    def claim(self) -> Claim | None:
        """Take the next study for this process and those that it starts: the study is RESOLVING, and leased.

        First is the one of the highest priority; of several, one whose owner has fewer studies under way; then the
        oldest. Of several processes, each takes another one.
        """
        owner = uuid4().hex
        begun: list[int] = []

        def work(connection: Connection) -> Claim | None:
            if begun and (name := connection.scalar(_CLAIMED, {"the_owner": owner})) is not None:
                return Claim(study=name, lease=owner)  # by an earlier attempt
            begun.append(1)
            now = self._store.moment(connection)
            taken = connection.execute(_TAKE[self._database.is_sqlite], {"now": now.time}).first()
            if taken is None:
                return None
            self._store.lease_to(connection, taken.id, owner=owner, now=now)
            return Claim(study=taken.name, lease=owner)

        return self._database.write(work)

    def request(self, name: str, request: StopRequest, *, by: Actor) -> StudyCondition:
        """Ask the process of a study to stop, or stop a study that no process runs; see `StudyStore.request`."""
        return self._transition(
            name, lambda found: study_transitions.requested(found, request, study=name), action=request.value, by=by
        )

    def enqueue(self, name: str, *, by: Actor) -> StudyCondition:
        """Queue a study that was paused, has failed, or lost its process.

        Raises `StudyNotFoundError`, or `StudyStateError` if it runs or is over.
        """

        def also(connection: Connection, study_id: int, now: float) -> bool:
            submission = _submission(connection, study_id)
            if submission is None:
                values = {"study_id": study_id, "owner": by.name, "priority": 0, "submitted_at": now}
                connection.execute(insert(submissions).values(**values, not_before=0.0, num_faults=0))
            else:
                _set(connection, study_id, not_before=0.0, num_faults=0)
            return submission is None or submission.not_before > now

        return self._transition(
            name, lambda found: study_transitions.enqueued(found, study=name), action="resume", by=by, also=also
        )

    def change(self, name: str, changes: Changes, *, priority: int | None = None, by: Actor) -> Submission:
        """Change the priority or the resources of a study; its process starts again with changed resources.

        Raises `StudyNotFoundError`, or `StudyStateError` if it is over.
        """

        def work(connection: Connection) -> Submission:
            row, found, now = self._store.found(connection, name)
            study_transitions.check_not_over(found, study=name, what="change")
            before = _submission(connection, row["id"]) or Submission(owner=by.name, submitted_at=now.time)
            given = {key: value for key, value in changes.model_dump().items() if value is not None}
            after = before.model_copy(
                update={
                    "changes": before.changes.model_copy(update=given),
                    **({} if priority is None else {"priority": priority}),
                }
            )
            values = {"priority": after.priority, "changes": json.dumps(after.changes.model_dump())}
            if _submission(connection, row["id"]) is None:
                fields = {"owner": after.owner, "submitted_at": after.submitted_at, "not_before": 0.0, "num_faults": 0}
                connection.execute(insert(submissions).values(study_id=row["id"], **fields, **values))
            else:
                _set(connection, row["id"], **values)
            if after.changes != before.changes:
                condition = study_transitions.to_apply(found)
                if condition != found:
                    self._store.set_condition(connection, row["id"], condition)
            if after != before:
                by.note(connection, "change", name, at=now.time, before=_shown(before), after=_shown(after))
            return after

        return self._database.write(work)

    def delete(self, name: str, *, by: Actor) -> None:
        """Remove a study with its trials. Raises `StudyNotFoundError` or `StudyBusyError`."""
        self._store.delete_study(name, also=lambda connection, now: by.note(connection, "delete", name, at=now))

    def give_back(self, name: str, reason: str) -> None:
        """Queue a study again after a fault of what is around it, not at once: later with each fault in a row.

        Faults are in a row unless the study could go on for half an hour in between. A request that its process did not
        fulfil is fulfilled.
        """
        done: list[Submission] = []

        def work(connection: Connection) -> None:
            row, found, now = self._store.found(connection, name)
            submission = _submission(connection, row["id"])
            if submission is None or found.is_leased or found.state.is_over or found.state is StudyState.FAILED:
                return
            if submission in done:  # by an earlier attempt
                return
            is_in_a_row = now.time <= submission.not_before + _LONGEST_PAUSE_S
            earlier = submission.num_faults if is_in_a_row else 0
            pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(earlier, 10))
            after = submission.model_copy(update={"not_before": now.time + pause, "num_faults": earlier + 1})
            done.append(after)
            _set(connection, row["id"], not_before=after.not_before, num_faults=after.num_faults)
            self._leave(connection, row["id"], found, study_transitions.given_back(found, reason=reason))

        self._database.write(work)

    def requeue_lost(self) -> Sequence[str]:
        """Queue the studies again whose process was lost; return their names."""

        def work(connection: Connection) -> list[str]:
            query = (
                select(tables.studies.c.name)
                .join(submissions)
                .where(tables.studies.c.state.in_(_ACTIVE))
                .order_by(tables.studies.c.id)
            )
            requeued = []
            for name in list(connection.scalars(query)):
                row, found, _ = self._store.found(connection, name)
                after = study_transitions.lost(found)
                if after != found:
                    self._leave(connection, row["id"], found, after)
                    requeued.append(name)
            return requeued

        return self._database.write(work)

    def submission(self, name: str) -> Submission | None:
        """What is known of a submitted study; None if it was not. Raises `StudyNotFoundError`."""
        query = select(submissions).join(tables.studies).where(tables.studies.c.name == name)
        row = self._database.read(lambda connection: connection.execute(query).mappings().first())
        if row is None:
            self._store.uid(name)  # raises if there is no such study
        return None if row is None else _from_row(row)

    def submissions(self, names: Collection[str]) -> Mapping[str, Submission]:
        """What is known of those of some studies that were submitted, by name."""
        query = select(tables.studies.c.name, submissions).join(submissions).where(tables.studies.c.name.in_(names))
        rows = self._database.read(lambda connection: connection.execute(query).mappings().all())
        return {row["name"]: _from_row(row) for row in rows}

    def audit(self, *, what: str | None = None, before: int | None = None, limit: int = 100) -> Sequence[AuditEntry]:
        """The newest entries of the audit trail; see `read_audit`."""
        return read_audit(self._database, what=what, before=before, limit=limit)

    def _transition(self, name: str, change: Any, *, action: str, by: Actor, also: Any = None) -> StudyCondition:
        def work(connection: Connection) -> StudyCondition:
            row, found, now = self._store.found(connection, name)
            after: StudyCondition = change(found)
            is_changed = also is not None and also(connection, row["id"], now.time)
            if after != found:
                self._leave(connection, row["id"], found, after)
            if after != found or is_changed:
                by.note(connection, action, name, at=now.time, before=found.state.value, after=after.state.value)
            return after

        return self._database.write(work)

    def _leave(self, connection: Connection, study_id: int, found: StudyCondition, after: StudyCondition) -> None:
        """Write the condition of a study; a process that was lost cannot change it any more."""
        if not found.is_leased:
            self._store.end_lease(connection, study_id)
        self._store.set_condition(connection, study_id, after)


def _running_of_owner() -> ScalarSelect[int]:
    """How many studies of the same owner are under way."""
    others, studies = submissions.alias("others"), tables.studies.alias("running")
    return (
        select(func.count())
        .select_from(others.join(studies, studies.c.id == others.c.study_id))
        .where(others.c.owner == submissions.c.owner, studies.c.state.in_(_ACTIVE))
        .scalar_subquery()
    )


def _next() -> Select[tuple[int]]:
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


_TAKE = {
    True: _take(_next()),  # SQLite write transactions are exclusive
    False: _take(_next().with_for_update(skip_locked=True, of=[tables.studies, submissions, tables.leases])),
}
_CLAIMED = select(tables.studies.c.name).join(tables.leases).where(tables.leases.c.owner == bindparam("the_owner"))


def _submission(connection: Connection, study_id: int) -> Submission | None:
    row = connection.execute(select(submissions).where(submissions.c.study_id == study_id)).mappings().first()
    return None if row is None else _from_row(row)


def _from_row(row: codec.Row) -> Submission:
    fields = {name: row[name] for name in ("owner", "priority", "submitted_at", "not_before", "num_faults")}
    changes = row["changes"]
    return Submission(**fields, changes=Changes() if changes is None else Changes.model_validate_json(changes))


def _set(connection: Connection, study_id: int, **values: object) -> None:
    connection.execute(update(submissions).where(submissions.c.study_id == study_id).values(**values))


def _shown(submission: Submission) -> str:
    changes = submission.changes.model_dump(exclude_none=True)
    return ", ".join([f"priority {submission.priority}", *(f"{name} {value:g}" for name, value in changes.items())])
