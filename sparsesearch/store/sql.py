"""The study store in a SQL database, SQLite or PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, delete, func, insert, select, text, update

from sparsesearch.store import codec, driver_errors, migrate, study_transitions, tables
from sparsesearch.store.database import Database
from sparsesearch.store.lease import LEASE_SECONDS, Lease
from sparsesearch.store.profiles import SqlProfiles
from sparsesearch.store.sql_records import SqlRecords
from sparsesearch.store.sql_writer import SqlWriter
from sparsesearch.study.protocols import StudyStore, StudyWriter
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StopRequest, StudyCondition, StudyState


def open_store(url: str, *, clock: Callable[[], float] = time.time, lease_s: float = LEASE_SECONDS) -> SqlStore:
    """Open the study store at a database URL, and create the tables of a new database.

    Args:
        url: `sqlite:///PATH` or `postgresql://USER@HOST/NAME`.
        clock: Clock, in seconds, the same for all processes that share the database.
        lease_s: Seconds after which a lease expires unless renewed.

    Raises:
        StoreError: The database cannot be opened, or belongs to another program.
        StoreVersionError: It is at another revision than this version needs.
        MissingExtraError: The PostgreSQL driver is not installed.
    """
    database = Database(url)
    try:
        migrate.prepare(database)
    except BaseException:
        database.close()
        raise
    return SqlStore(database, clock=clock, lease_s=lease_s)


class SqlStore(SqlRecords, StudyStore):
    """The studies of a database whose tables exist. Safe to use from several threads and processes."""

    def __init__(
        self, database: Database, *, clock: Callable[[], float] = time.time, lease_s: float = LEASE_SECONDS
    ) -> None:
        """Use a database; see `open_store` for the arguments."""
        super().__init__(database, clock=clock)
        self._lease_s = lease_s

    def create_study(self, spec: StudySpec) -> StudyWriter:
        """Add a study and open it. Raises `StudyExistsError` if the name exists."""
        now = self._clock()
        lease = Lease.new(generation=1, expires_at=now + self._lease_s)
        study_id, uid = self._add(spec, state=study_transitions.opened(spec), lease=lease, now=now)
        return self._writer(spec, study_id=study_id, uid=uid, lease=lease)

    def submit_study(self, spec: StudySpec) -> None:
        """Add a study as QUEUED, for a process that opens it later. Raises `StudyExistsError` if the name exists."""
        lease = Lease.new(generation=0, expires_at=0.0)
        self._add(spec, state=StudyState.QUEUED, lease=replace(lease, owner=None), now=self._clock())

    def request(self, name: str, request: StopRequest) -> StudyCondition:
        """Ask the process of a study to stop, or stop a study that no process runs; return its new condition.

        Raises `StudyNotFoundError`, or `StudyStateError` if the study is over.
        """
        with self._database.writing() as connection:
            row = self._find(connection, name)
            lease = self._lease(connection, row["id"], for_update=True)
            found = codec.condition_from_row(row, lease=lease, now=self._clock())
            after = study_transitions.requested(found, request, study=name)
            if after != found:
                self._set_condition(connection, row["id"], after)
            return after

    def open_study(self, name: str, *, resume: bool = False) -> StudyWriter:
        """Acquire the lease of a study, to run it with `resume`; see `StudyStore.open_study`."""
        with self._database.writing() as connection:
            row = self._find(connection, name)
            spec = codec.study_from_row(row)
            old = self._free_lease(connection, name, study_id=row["id"])
            if resume:
                found = codec.condition_from_row(row, lease=old, now=self._clock())
                self._set_condition(connection, row["id"], study_transitions.resumed(found, spec))
            expires_at = self._clock() + self._lease_s
            lease = Lease.new(generation=old.generation + 1, expires_at=expires_at, active_s=old.active_s)
            connection.execute(
                update(tables.leases).where(tables.leases.c.study_id == row["id"]).values(**_lease_to_row(lease))
            )
        return self._writer(spec, study_id=row["id"], uid=row["uid"] or "", lease=lease)

    def delete_study(self, name: str) -> None:
        """Remove a study with its trials. Raises `StudyNotFoundError` or `StudyBusyError`."""
        with self._database.writing() as connection:
            study_id = self._find(connection, name)["id"]
            self._free_lease(connection, name, study_id=study_id)
            connection.execute(delete(tables.studies).where(tables.studies.c.id == study_id))

    @property
    def profiles(self) -> SqlProfiles:
        """The latency profiles of the same database."""
        return SqlProfiles(self._database, clock=self._clock)

    def close(self) -> None:
        """Close idle connections; the store opens new ones when needed."""
        self._database.close()

    def _writer(self, spec: StudySpec, *, study_id: int, uid: str, lease: Lease) -> SqlWriter:
        return SqlWriter(
            self._database,
            spec=spec,
            uid=uid,
            study_id=study_id,
            lease=lease,
            clock=self._clock,
            lease_s=self._lease_s,
        )

    def _set_condition(self, connection: Connection, study_id: int, condition: StudyCondition) -> None:
        values = codec.condition_to_row(condition)
        connection.execute(update(tables.studies).where(tables.studies.c.id == study_id).values(**values))

    def _add(self, spec: StudySpec, *, state: StudyState, lease: Lease, now: float) -> tuple[int, str]:
        """Add a study with its lease, and return its id and its unique id."""
        with self._database.writing() as connection:
            if not self._database.is_sqlite:  # SQLite write transactions are exclusive
                connection.execute(text("LOCK TABLE studies IN SHARE ROW EXCLUSIVE MODE"))
            row = codec.study_to_row(spec)
            if connection.scalar(select(tables.studies.c.id).where(tables.studies.c.name == spec.name)) is not None:
                raise driver_errors.exists(spec.name, where=self._database.where)
            study_id: int = (connection.scalar(select(func.max(tables.studies.c.id))) or 0) + 1
            uid = uuid4().hex
            values = {**row, "id": study_id, "uid": uid, "created_at": now, "state": state.value}
            connection.execute(insert(tables.studies).values(**values))
            connection.execute(insert(tables.leases).values(**_lease_to_row(lease), study_id=study_id))
        return study_id, uid

    def _free_lease(self, connection: Connection, name: str, *, study_id: int) -> Lease:
        """Return the free lease of a study, locked against other processes until the transaction ends."""
        lease = self._lease(connection, study_id, for_update=True)
        if lease is None:  # deleted by another process in the meantime
            raise self._missing(connection, name)
        lease.check_free(study=name, now=self._clock())
        return lease


def _lease_to_row(lease: Lease) -> dict[str, Any]:
    process = lease.process
    return {
        "owner": lease.owner,
        "generation": lease.generation,
        "expires_at": lease.expires_at,
        "host": process.host,
        "machine": process.machine,
        "pid": process.pid,
        "process_start": process.process_start,
        "work": lease.work,
        "active_s": lease.active_s,
    }
