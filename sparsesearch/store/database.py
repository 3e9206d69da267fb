"""Connections: SQLite and PostgreSQL, each with the transactions and the durability that a study needs."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry

from sparsesearch.errors import MissingExtraError, StoreError, one_line
from sparsesearch.store.filesystem import network_filesystem

BUSY_SECONDS = 30.0
"""How long a SQLite connection waits for another one's write to end."""

_IMMEDIATE = "sparsesearch_immediate"
_MIGRATION_LOCK = 0x7370_6172_7365  # an arbitrary number, the same in every process


class Database:
    """One database. Safe to use from several threads; each transaction has a connection of its own.

    Attributes:
        where: The database in words, without its password.
        is_sqlite: Whether it is a SQLite file.
    """

    def __init__(self, url: str) -> None:
        """Prepare connections; nothing is opened yet.

        Args:
            url: `sqlite:///PATH` (relative to the working directory of now) or `postgresql://USER@HOST/NAME`.

        Raises:
            StoreError: The url is of another kind, or its file cannot lie where it says.
            MissingExtraError: The PostgreSQL driver is not installed.
        """
        parsed = _parse(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite:
            path = _sqlite_path(parsed)
            self.where = str(path)
            engine = create_engine(
                URL.create("sqlite+pysqlite", database=str(path)), connect_args={"timeout": BUSY_SECONDS}
            )
            event.listen(engine, "connect", _on_sqlite_connect)
            event.listen(engine, "begin", _on_sqlite_begin)
            self._reads = engine
            self._writes: Engine = engine.execution_options(**{_IMMEDIATE: True})
        else:
            self.where = parsed.render_as_string(hide_password=True)
            engine = _postgres_engine(parsed)
            self._reads = engine.execution_options(isolation_level="REPEATABLE READ")
            self._writes = engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and changes nothing.

        Raises:
            StoreError: The database cannot be reached or read.
        """
        with self._readable_errors(), self._reads.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A durable transaction; an exception undoes it.

        Raises:
            StoreError: The database cannot be reached or written.
        """
        with self._readable_errors(), self._writes.begin() as connection:
            yield connection

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """A writing transaction that no other migration runs beside.

        Foreign keys of SQLite are off in it, since tables may be rebuilt, and are checked at its end.

        Raises:
            StoreError: The database cannot be reached or written, or the migration left a broken reference.
        """
        with self._readable_errors(), self._writes.connect() as connection:
            if self.is_sqlite:
                connection.connection.cursor().execute("PRAGMA foreign_keys=OFF")
            try:
                with connection.begin():
                    if not self.is_sqlite:
                        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
                    yield connection
                    if self.is_sqlite and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                        raise StoreError(f"migrating {self.where} would break references; nothing was changed")
            finally:
                if self.is_sqlite:
                    connection.connection.cursor().execute("PRAGMA foreign_keys=ON")

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._reads.dispose()

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise StoreError(self._explain(one_line(error.orig or error))) from error

    def _explain(self, complaint: str) -> str:
        if not self.is_sqlite:
            return f"{self.where}: {complaint}; check that the server runs and that the url is right"
        if "not a database" in complaint or "malformed" in complaint:
            return f"{self.where} is not a readable SQLite database ({complaint}); name another file or restore a copy"
        if "locked" in complaint:
            return f"{self.where} was locked by another process for {BUSY_SECONDS:g} s; try again when it has ended"
        return f"{self.where}: {complaint}; check that the file and its folder can be written and the disk is not full"


def _parse(url: str) -> URL:
    forms = "write sqlite:///PATH or postgresql://USER@HOST/NAME"
    shown = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StoreError(f"cannot read the database url {shown!r}; {forms}") from error
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg"):
        raise StoreError(f"no support for the database url {shown!r}; {forms}")
    return parsed


def _sqlite_path(url: URL) -> Path:
    if url.database in (None, "", ":memory:"):
        raise StoreError("a SQLite database in memory would be lost at the end; write sqlite:///PATH")
    if url.query or url.host:
        shown = url.render_as_string(hide_password=True)
        raise StoreError(f"cannot use the database url {shown!r}; write sqlite:///PATH, without host and options")
    path = Path(str(url.database)).expanduser().absolute()
    kind = network_filesystem(path)
    if kind is not None:
        raise StoreError(
            f"{path} lies on a network filesystem ({kind}), where SQLite loses data; name a file on a local disk or "
            "a PostgreSQL server in SPARSESEARCH_DATABASE_URL"
        )
    if path.is_dir():
        raise StoreError(f"{path} is a folder; name a file in it, such as {path / 'studies.db'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the folder {path.parent} ({error.strerror}); name another one") from error
    return path


def _postgres_engine(url: URL) -> Engine:
    query = {"connect_timeout": "10", **url.query}
    try:
        return create_engine(url.set(drivername="postgresql+psycopg", query=query), pool_pre_ping=True)
    except ImportError as error:
        raise MissingExtraError(
            "PostgreSQL needs the driver psycopg; run: pip install 'sparsesearch[postgres]'"
        ) from error


def _on_sqlite_connect(connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # this driver would otherwise choose itself where transactions begin
    cursor = connection.cursor()
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        mode = cursor.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise sqlite3.OperationalError(f"write-ahead logging cannot be switched on (journal mode is {mode})")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _on_sqlite_begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get(_IMMEDIATE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
