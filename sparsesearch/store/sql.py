"""The study store in a SQL database, SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, delete, func, insert, select, text, update

from sparsesearch.store import codec, driver_errors, migrate, study_transitions, tables
from sparsesearch.store.database import Database
from sparsesearch.store.lease import LEASE_SECONDS, Lease
from sparsesearch.store.moment import Moment
from sparsesearch.store.outbox import write_condition
from sparsesearch.store.patience import Patience
from sparsesearch.store.queue import SqlQueue
from sparsesearch.store.service_records import SqlServiceRecords
from sparsesearch.store.sql_parts import SqlParts
from sparsesearch.store.sql_writer import SqlWriter
from sparsesearch.study.protocols import StudyStore, StudyWriter
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StopRequest, StudyCondition, StudyState


def open_store(
    url: str,
    *,
    clock: Callable[[], float] | None = None,
    lease_s: float = LEASE_SECONDS,
    patience_s: float = 0.0,
    on_wait: Callable[[str], None] = lambda line: None,
) -> SqlStore:
    """Open the study store at a database URL, and create the tables of a new database.

    Args:
        url: `sqlite:///PATH` or `postgresql://USER@HOST/NAME`.
        clock: Clock, in Unix seconds, for tests. By default the clock of the server decides about leases, or with
            SQLite one of the machine that does not jump.
        lease_s: Seconds after which a lease expires unless renewed.
        patience_s: Seconds to wait for a database that is not available; see `SqlStore.set_patience`.
        on_wait: Receives a line when such waiting begins, and one when it is over.

    Raises:
        StoreUnavailableError: The database is not available: locked, not running, disk full.
        StoreError: It cannot be opened, or belongs to another program.
        StoreVersionError: It is at another revision than this version needs.
        MissingExtraError: The PostgreSQL driver is not installed.
    """
    database = Database(url)
    database.patience = Patience(patience_s, on_wait=on_wait)
    try:
        migrate.prepare(database)
    except BaseException:
        database.close()
        raise
    return SqlStore(database, clock=clock, lease_s=lease_s)


class SqlStore(SqlServiceRecords, SqlParts, StudyStore):
    """The studies of a database whose tables exist. Safe to use from several threads and processes.

    What is written may be repeated after a failure of which it is unknown whether it came before or after the commit;
    it is then found to be stored.
    """

    def __init__(
        self, database: Database, *, clock: Callable[[], float] | None = None, lease_s: float = LEASE_SECONDS
    ) -> None:
        """Use a database; see `open_store` for the arguments."""
        super().__init__(database, clock=clock)
        self._lease_s = lease_s

    def set_patience(
        self,
        seconds: float,
        *,
        on_wait: Callable[[str], None] = lambda line: None,
        give_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wait for a database that is not available, in this store and in the studies that are open.

        Args:
            seconds: How long; after that `StoreUnavailableError` is raised.
            on_wait: Receives a line when the waiting begins, and one when it is over.
            give_up: Whether to wait no longer, because the process is to end.
        """
        self._database.patience = Patience(seconds, on_wait=on_wait, give_up=give_up)

    def create_study(self, spec: StudySpec) -> StudyWriter:
        """Add a study and open it. Raises `StudyExistsError` if the name exists."""
        state, owner = study_transitions.opened(spec), uuid4().hex
        study_id, uid, lease = self._add(spec, state=state, owner=owner)
        return self._writer(spec, study_id=study_id, uid=uid, lease=lease)

    def submit_study(self, spec: StudySpec) -> None:
        """Add a study as QUEUED, for a process that opens it later. Raises `StudyExistsError` if the name exists."""
        self._add(spec, state=StudyState.QUEUED, owner=None)

    def request(self, name: str, request: StopRequest) -> StudyCondition:
        """Ask the process of a study to stop, or stop a study that no process runs; return its new condition.

        Raises `StudyNotFoundError`, or `StudyStateError` if the study is over.
        """

        def work(connection: Connection) -> StudyCondition:
            row, found, now = self.found(connection, name)
            after = study_transitions.requested(found, request, study=name)
            if after != found:
                write_condition(connection, row["id"], after, at=now.time)
            return after

        return self._database.write(work)

    def add_queued(self, spec: StudySpec, *, also: Callable[[Connection, int, float], None]) -> None:
        """`submit_study`, and something more in the same transaction, given the id of the study and the time."""
        self._add(spec, state=StudyState.QUEUED, owner=None, also=also)

    def found(self, connection: Connection, name: str) -> tuple[codec.Row, StudyCondition, Moment]:
        """Return the row of a study, its condition and the time, in a transaction that may change them."""
        row = self._find(connection, name)
        lease, now = self._lease(connection, row["id"], for_update=True), self.moment(connection)
        row = self._find(connection, name)  # as it is with the lease locked
        return row, codec.condition_from_row(row, lease=lease, now=now), now

    def lease_to(self, connection: Connection, study_id: int, *, owner: str, now: Moment) -> None:
        """Acquire the lease of a study that no process runs."""
        old = self._lease(connection, study_id, for_update=True)
        assert old is not None, "each study has a lease"
        lease = Lease.new(
            owner=owner, generation=old.generation + 1, now=now, lease_s=self._lease_s, active_s=old.active_s
        )
        self._set_lease(connection, study_id, lease)

    def unleased(self, connection: Connection, name: str) -> tuple[codec.Row, Moment]:
        """Return the row of a study, and the time, in a transaction in which no process may acquire its lease.

        Raises `StudyNotFoundError`, or `StudyBusyError` if it is leased.
        """
        row = self._find(connection, name)
        _, now = self._free_lease(connection, name, self._lease(connection, row["id"], for_update=True))
        return self._find(connection, name), now

    def end_lease(self, connection: Connection, study_id: int) -> None:
        """Take the lease from a process that was lost, which cannot go on then should it wake up."""
        ended = update(tables.leases).where(tables.leases.c.study_id == study_id).values(owner=None, work=None)
        connection.execute(ended)

    def moment(self, connection: Connection) -> Moment:
        """The time that decides leases."""
        return self._now(connection)

    def open_study(self, name: str, *, resume: bool = False) -> StudyWriter:
        """Acquire the lease of a study, to run it with `resume`; see `StudyStore.open_study`."""
        owner = uuid4().hex

        def work(connection: Connection) -> tuple[codec.Row, StudySpec, Lease]:
            row = self._find(connection, name)
            spec = codec.study_from_row(row)
            old = self._lease(connection, row["id"], for_update=True)
            if old is not None and old.owner == owner:  # by an earlier attempt
                return row, spec, old
            old, now = self._free_lease(connection, name, old)
            if resume:
                found = codec.condition_from_row(row, lease=old, now=now)
                write_condition(connection, row["id"], study_transitions.resumed(found, spec), at=now.time)
            generation = old.generation + 1
            lease = Lease.new(owner=owner, generation=generation, now=now, lease_s=self._lease_s, active_s=old.active_s)
            self._set_lease(connection, row["id"], lease)
            return row, spec, lease

        row, spec, lease = self._database.write(work)
        return self._writer(spec, study_id=row["id"], uid=row["uid"] or "", lease=lease)

    def open_claimed(self, name: str, owner: str) -> StudyWriter:
        """Take over the lease of a study that was claimed for this process; see `SqlQueue.claim`.

        A request that came in between is kept. Raises `StaleAttemptError` if the claim is lost.
        """

        def work(connection: Connection) -> tuple[codec.Row, StudySpec, Lease]:
            row, _, now = self.found(connection, name)
            spec = codec.study_from_row(row)
            old = self._lease(connection, row["id"])
            if old is None or old.owner != owner:
                raise driver_errors.lease_lost(name)
            lease = Lease.new(
                owner=owner, generation=old.generation, now=now, lease_s=self._lease_s, active_s=old.active_s
            )
            self._set_lease(connection, row["id"], lease)
            found = codec.condition_from_row(row, lease=lease, now=now)
            write_condition(connection, row["id"], study_transitions.taken(found, spec), at=now.time)
            return row, spec, lease

        row, spec, lease = self._database.write(work)
        return self._writer(spec, study_id=row["id"], uid=row["uid"] or "", lease=lease)

    def delete_study(
        self, name: str, *, also: Callable[[Connection, str, float], None] = lambda connection, state, now: None
    ) -> None:
        """Remove a study with its trials, and do something more in the same transaction, given its state and the time.

        Raises `StudyNotFoundError` or `StudyBusyError`.
        """
        deleted: list[int] = []

        def work(connection: Connection) -> None:
            row = connection.execute(select(tables.studies.c.id).where(tables.studies.c.name == name)).first()
            if row is None and deleted:  # by an earlier attempt
                return
            found, now = self.unleased(connection, name)
            also(connection, found["state"], now.time)
            connection.execute(delete(tables.studies).where(tables.studies.c.id == found["id"]))
            deleted.append(found["id"])

        self._database.write(work)

    @property
    def queue(self) -> SqlQueue:
        """The studies that were submitted, and what controllers do with them."""
        return SqlQueue(self, self._database)

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

    def _set_lease(self, connection: Connection, study_id: int, lease: Lease) -> None:
        values = _lease_to_row(lease)
        connection.execute(update(tables.leases).where(tables.leases.c.study_id == study_id).values(**values))

    def _add(
        self,
        spec: StudySpec,
        *,
        state: StudyState,
        owner: str | None,
        also: Callable[[Connection, int, float], None] = lambda connection, study_id, now: None,
    ) -> tuple[int, str, Lease]:
        """Add a study with its lease, and return its id, its unique id and the lease."""
        row, uid = codec.study_to_row(spec), uuid4().hex

        def work(connection: Connection) -> tuple[int, str, Lease]:
            if not self._database.is_sqlite:  # SQLite write transactions are exclusive
                connection.execute(text("LOCK TABLE studies IN SHARE ROW EXCLUSIVE MODE"))
            now = self._now(connection)
            generation, lease_s = (0, 0.0) if owner is None else (1, self._lease_s)
            lease = Lease.new(owner=owner, generation=generation, now=now, lease_s=lease_s)
            query = select(tables.studies.c.id, tables.studies.c.uid).where(tables.studies.c.name == spec.name)
            found = connection.execute(query).first()
            if found is not None and found.uid == uid:  # by an earlier attempt
                return found.id, uid, self._lease(connection, found.id) or lease
            if found is not None:
                raise driver_errors.exists(spec.name, where=self._database.where)
            study_id: int = (connection.scalar(select(func.max(tables.studies.c.id))) or 0) + 1
            values = {**row, "id": study_id, "uid": uid, "created_at": now.time, "state": state.value}
            connection.execute(insert(tables.studies).values(**values))
            connection.execute(insert(tables.leases).values(**_lease_to_row(lease), study_id=study_id))
            also(connection, study_id, now.time)
            return study_id, uid, lease

        return self._database.write(work)

    def _free_lease(self, connection: Connection, name: str, lease: Lease | None) -> tuple[Lease, Moment]:
        """Return the lease of a study, which is locked and free, and the time."""
        if lease is None:  # deleted by another process in the meantime
            raise self._missing(connection, name)
        now = self._now(connection)
        lease.check_free(study=name, now=now)
        return lease, now


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
        "steady_until": lease.steady_until,
        "boot": lease.boot,
    }
