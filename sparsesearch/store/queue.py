"""The queue of studies that were submitted: who takes which one, and what happens to it on the way."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import Connection, select, update

from sparsesearch.errors import StudyStateError
from sparsesearch.store import codec, study_transitions, tables
from sparsesearch.store import queue_statements as sql
from sparsesearch.store.audit import Actor, read_audit
from sparsesearch.store.database import Database
from sparsesearch.store.moment import Moment
from sparsesearch.store.outbox import queue_state, write_condition
from sparsesearch.store.service_tables import submissions
from sparsesearch.store.submission_rows import add_submission, read_submission, set_submission, submission_of
from sparsesearch.store.trial_updates import retry_failed
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StopRequest, StudyCondition, StudyState
from sparsesearch.study.submission import AuditEntry, Changes, Claim, Submission
from sparsesearch.study.trial import Trial
from sparsesearch.text import counted

if TYPE_CHECKING:
    from sparsesearch.store.sql import SqlStore

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 30.0, 1800.0

MAX_LOSSES = 5
"""Faults in a row after which a study is PAUSED when its process is lost once more."""


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
            add_submission(connection, study_id, Submission(owner=by.name, priority=priority, submitted_at=now))
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
            if begun and (name := connection.scalar(sql.CLAIMED, {"the_owner": owner})) is not None:
                return Claim(study=name, lease=owner)  # by an earlier attempt
            begun.append(1)
            now = self._store.moment(connection)
            taken = connection.execute(sql.TAKE[self._database.is_sqlite], {"now": now.time}).first()
            if taken is None:
                return None
            self._store.lease_to(connection, taken.id, owner=owner, now=now)
            queue_state(connection, taken.id, StudyCondition(state=StudyState.RESOLVING), at=now.time)
            return Claim(study=taken.name, lease=owner)

        return self._database.write(work)

    def request(self, name: str, request: StopRequest, *, by: Actor) -> StudyCondition:
        """Ask the process of a study to stop, or stop a study that no process runs; see `StudyStore.request`."""
        return self._transition(
            name, lambda found: study_transitions.requested(found, request, study=name), action=request.value, by=by
        )

    def enqueue(self, name: str, *, by: Actor) -> StudyCondition:
        """Queue a study that was paused, has failed, or lost its process.

        If it has failed, its failed trials run again from their last checkpoints. Raises `StudyNotFoundError`, or
        `StudyStateError` if it runs or is over.
        """

        def also(connection: Connection, row: codec.Row, found: StudyCondition, now: Moment) -> bool:
            if found.state is StudyState.FAILED:
                retry_failed(connection, row, now=now.time)
            submission = read_submission(connection, row["id"])
            if submission is None:
                add_submission(connection, row["id"], Submission(owner=by.name, submitted_at=now.time))
            else:
                set_submission(connection, row["id"], not_before=0.0, num_faults=0)
            return submission is None or submission.not_before > now.time

        return self._transition(
            name, lambda found: study_transitions.enqueued(found, study=name), action="resume", by=by, also=also
        )

    def retry(self, name: str, *, number: int | None = None) -> Sequence[Trial]:
        """Let failed trials run again from their last checkpoints; the study is PAUSED, until it is resumed.

        Args:
            name: Name of the study.
            number: The trial; None for all that have failed.

        Raises:
            StudyNotFoundError: There is no such study.
            StudyBusyError: A process runs it.
            StudyStateError: It was cancelled, or no such trial has failed.
        """
        done: list[Trial] = []

        def work(connection: Connection) -> list[Trial]:
            row, now = self._store.unleased(connection, name)
            if StudyState(row["state"]) is StudyState.CANCELLED:
                raise StudyStateError(f"study {name!r} was cancelled, so its trials cannot run again")
            retried = retry_failed(connection, row, number=number, now=now.time)
            if not retried and done:  # by an earlier attempt
                return done
            if not retried:
                which = "no failed trials" if number is None else f"no failed trial {number}"
                raise StudyStateError(f"study {name!r} has {which}; see: sparsesearch trials {name}")
            reason = f"{counted(len(retried), 'failed trial')} to run again"
            self._leave(connection, row["id"], StudyCondition(state=StudyState.PAUSED, reason=reason), now=now)
            done.extend(retried)
            return retried

        return self._database.write(work)

    def change(self, name: str, changes: Changes, *, priority: int | None = None, by: Actor) -> Submission:
        """Change the priority or the resources of a study; its process starts again with changed resources.

        Raises `StudyNotFoundError`, or `StudyStateError` if it is over.
        """

        def work(connection: Connection) -> Submission:
            row, found, now = self._store.found(connection, name)
            study_transitions.check_not_over(found, study=name, what="change")
            before = read_submission(connection, row["id"]) or Submission(owner=by.name, submitted_at=now.time)
            given = {key: value for key, value in changes.model_dump().items() if value is not None}
            after = before.model_copy(
                update={
                    "changes": before.changes.model_copy(update=given),
                    **({} if priority is None else {"priority": priority}),
                }
            )
            if read_submission(connection, row["id"]) is None:
                add_submission(connection, row["id"], after)
            else:
                changed = json.dumps(after.changes.model_dump())
                set_submission(connection, row["id"], priority=after.priority, changes=changed)
            if after.changes != before.changes:
                condition = study_transitions.to_apply(found)
                if condition != found:
                    write_condition(connection, row["id"], condition, at=now.time)
            if after != before:
                by.note(connection, "change", name, at=now.time, before=_shown(before), after=_shown(after))
            return after

        return self._database.write(work)

    def delete(self, name: str, *, by: Actor) -> None:
        """Remove a study with its trials. Raises `StudyNotFoundError` or `StudyBusyError`."""

        def also(connection: Connection, state: str, now: float) -> None:
            by.note(connection, "delete", name, at=now, before=state)

        self._store.delete_study(name, also=also)

    def give_back(self, name: str, reason: str) -> None:
        """Queue a study again after a fault of what is around it, not at once: later with each fault in a row.

        Faults are in a row if nothing was measured between them. A request that its process did not fulfil is
        fulfilled.
        """
        done: list[Submission] = []

        def work(connection: Connection) -> None:
            row, found, now = self._store.found(connection, name)
            submission = read_submission(connection, row["id"])
            if submission is None or found.is_leased or found.state.is_over or found.state is StudyState.FAILED:
                return
            if submission in done:  # by an earlier attempt
                return
            done.append(_fault(connection, row["id"], submission, now=now))
            self._leave(connection, row["id"], study_transitions.given_back(found, reason=reason), now=now)

        self._database.write(work)

    def requeue_lost(self) -> Sequence[str]:
        """Queue the studies again whose process was lost, later with each loss in a row; return their names.

        One that is lost again and again without measuring anything in between is PAUSED.
        """

        def work(connection: Connection) -> list[str]:
            requeued = []
            for name in list(connection.scalars(sql.UNDER_WAY)):
                row, found, now = self._store.found(connection, name)
                after = study_transitions.lost(found)
                submission = read_submission(connection, row["id"])
                if after == found or submission is None:
                    continue
                if after.state is StudyState.QUEUED:
                    noted = _fault(connection, row["id"], submission, now=now, first_pause_s=0.0)
                    after = study_transitions.lost(found, is_last=noted.num_faults > MAX_LOSSES)
                self._leave(connection, row["id"], after, now=now)
                requeued.append(name)
            return requeued

        return self._database.write(work)

    def note_synced(self, name: str, change: int, *, page: str | None) -> None:
        """Note that MLflow has what a submitted study was after a change, on that page.

        Changes have the numbers of `SqlServiceRecords.last_change`.
        """
        study = select(tables.studies.c.id).where(tables.studies.c.name == name).scalar_subquery()
        query = (
            update(submissions).where(submissions.c.study_id == study).values(mlflow_change=change, mlflow_page=page)
        )
        self._database.write(lambda connection: connection.execute(query))

    def submission(self, name: str) -> Submission | None:
        """What is known of a submitted study; None if it was not. Raises `StudyNotFoundError`."""
        query = select(submissions).join(tables.studies).where(tables.studies.c.name == name)
        row = self._database.read(lambda connection: connection.execute(query).mappings().first())
        if row is None:
            self._store.uid(name)  # raises if there is no such study
        return None if row is None else submission_of(row)

    def submissions(self, names: Collection[str]) -> Mapping[str, Submission]:
        """What is known of those of some studies that were submitted, by name."""
        query = select(tables.studies.c.name, submissions).join(submissions).where(tables.studies.c.name.in_(names))
        rows = self._database.read(lambda connection: connection.execute(query).mappings().all())
        return {row["name"]: submission_of(row) for row in rows}

    def waiting(self) -> tuple[Mapping[str, Submission], Mapping[str, int]]:
        """The submissions of queued studies, by name, and how many studies of each owner are under way."""

        def work(connection: Connection) -> tuple[Mapping[str, Submission], Mapping[str, int]]:
            rows = connection.execute(sql.WAITING).mappings()
            queued = {row["name"]: submission_of(row) for row in rows}
            return queued, {owner: count for owner, count in connection.execute(sql.RUNNING_BY_OWNER)}

        return self._database.read(work)

    def audit(self, *, what: str | None = None, before: int | None = None, limit: int = 100) -> Sequence[AuditEntry]:
        """The newest entries of the audit trail; see `read_audit`."""
        return read_audit(self._database, what=what, before=before, limit=limit)

    def _transition(self, name: str, change: Any, *, action: str, by: Actor, also: Any = None) -> StudyCondition:
        def work(connection: Connection) -> StudyCondition:
            row, found, now = self._store.found(connection, name)
            after: StudyCondition = change(found)
            is_changed = also is not None and also(connection, row, found, now)
            if after != found:
                self._leave(connection, row["id"], after, now=now)
            if after != found or is_changed:
                by.note(connection, action, name, at=now.time, before=found.state.value, after=after.state.value)
            return after

        return self._database.write(work)

    def _leave(self, connection: Connection, study_id: int, after: StudyCondition, *, now: Moment) -> None:
        """Write the condition of a study; a process that was lost cannot change it any more."""
        if not after.is_leased:
            self._store.end_lease(connection, study_id)
        write_condition(connection, study_id, after, at=now.time)


def _fault(
    connection: Connection, study_id: int, before: Submission, *, now: Moment, first_pause_s: float = _FIRST_PAUSE_S
) -> Submission:
    """Note a fault of a study, which is not taken from the queue for a while: longer with each in a row."""
    since = {"the_study": study_id, "since": before.not_before}
    earlier = 0 if connection.execute(sql.HAS_MEASURED, since).first() else before.num_faults
    pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(earlier, 10)) if earlier else first_pause_s
    after = before.model_copy(update={"not_before": now.time + pause, "num_faults": earlier + 1})
    set_submission(connection, study_id, not_before=after.not_before, num_faults=after.num_faults)
    return after


def _shown(submission: Submission) -> str:
    changes = submission.changes.model_dump(exclude_none=True)
    return ", ".join([f"priority {submission.priority}", *(f"{name} {value:g}" for name, value in changes.items())])
