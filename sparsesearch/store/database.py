"""Connections to SQLite and PostgreSQL, with the transactions and the durability that studies need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

from sparsesearch.errors import MissingExtraError, StoreError, StoreUnavailableError, one_line
from sparsesearch.files.user_path import user_path
from sparsesearch.redact import passwords_in, without_password
from sparsesearch.store.faults import is_passing
from sparsesearch.store.filesystem import network_filesystem
from sparsesearch.store.patience import Patience
from sparsesearch.store.sqlite_connections import WAIT_S, SqliteFile

BUSY_SECONDS = 30.0
"""How long a SQLite connection waits for a write of another connection."""

_SOON_S = 5.0  # the same where a longer waiting is announced

_MIGRATION_LOCK = 0x7370_6172_7365  # an arbitrary number, the same in every process

_T = TypeVar("_T")


class Database:
    """A database. Thread-safe: each transaction has its own connection.

    Attributes:
        where: The database for use in messages, without its password.
        is_sqlite: Whether it is a SQLite file.
        patience: How long `read` and `write` wait for a database that is not available.
    """

    def __init__(self, url: str) -> None:
        """Prepare connections without opening one.

        Args:
            url: `sqlite:///PATH` (relative to the current working directory) or `postgresql://USER@HOST/NAME`.

        Raises:
            StoreError: The URL is not supported, or its file cannot be in that location.
            MissingExtraError: The PostgreSQL driver is not installed.
        """
        parsed = _parse(url)
        self.patience = Patience()
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self._passwords = passwords_in(url)
        if self.is_sqlite:
            path = _sqlite_path(parsed)
            self.where = str(path)
            file = SqliteFile(path, busy_s=BUSY_SECONDS)
            engine = create_engine(URL.create("sqlite+pysqlite", database=str(path)), creator=file.connect)
            event.listen(engine, "begin", file.on_begin)
            self._reads = engine
            self._writes: Engine = engine.execution_options(**{WAIT_S: lambda: self._busy_s})
        else:
            self.where = without_password(url)
            engine = _postgres_engine(parsed)
            self._reads = engine.execution_options(isolation_level="REPEATABLE READ")
            self._writes = engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a read-only transaction with a consistent snapshot of the database.

        Raises:
            StoreUnavailableError: The database is not available.
            StoreError: It cannot be opened or read.
        """
        with self._transaction(self._reads) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a durable transaction; an exception rolls it back.

        Raises:
            StoreUnavailableError: The database is not available. Whether the transaction was committed is unknown.
            StoreError: It cannot be opened or written.
        """
        with self._transaction(self._writes) as connection:
            yield connection

    def read(self, work: Callable[[Connection], _T]) -> _T:
        """Return what `work` returns in a transaction of `reading`, which is repeated within the patience."""

        def attempt() -> _T:
            with self.reading() as connection:
                return work(connection)

        return self.patience.run(attempt)

    def write(self, work: Callable[[Connection], _T]) -> _T:
        """Return what `work` returns in a transaction of `writing`, which is repeated within the patience.

        An earlier attempt may have been committed, so `work` must do nothing more if what it does is done.
        """

        def attempt() -> _T:
            with self.writing() as connection:
                return work(connection)

        return self.patience.run(attempt)

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """Open a write transaction that excludes other migrations.

        SQLite foreign keys are off during the transaction, since tables may be rebuilt, and are checked at its end.

        Raises:
            StoreError: The database cannot be opened or written, or the migration left a broken reference.
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
                        raise StoreError(f"migrating {self.where} would break foreign keys; nothing was changed")
            finally:
                if self.is_sqlite:
                    connection.connection.cursor().execute("PRAGMA foreign_keys=ON")

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._reads.dispose()

    @property
    def _busy_s(self) -> float:
        return min(_SOON_S, BUSY_SECONDS) if self.patience.seconds > 0 else BUSY_SECONDS

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        with self._readable_errors(), engine.connect() as connection, connection.begin():
            try:
                yield connection
            except self._driver_errors as error:  # of prepared statements, which SQLAlchemy does not see
                driver = connection.connection.dbapi_connection
                if engine.dialect.is_disconnect(error, driver, None):  # type: ignore[arg-type]
                    connection.invalidate(error)
                raise

    @property
    def _driver_errors(self) -> type[Exception]:
        error: type[Exception] = self._reads.dialect.loaded_dbapi.Error
        return error

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except (DBAPIError, self._driver_errors) as error:
            origin = getattr(error, "orig", None) or error
            message = self._explain(one_line(origin))
            if not is_passing(origin):
                raise StoreError(message) from error
            unavailable = StoreUnavailableError(message)
            unavailable.is_disconnect = not self.is_sqlite
            raise unavailable from error

    def _explain(self, message: str) -> str:
        for password in self._passwords:
            message = message.replace(password, "***")
        if not self.is_sqlite:
            return f"{self.where}: {message}; check that the server is running and that the URL is correct"
        if "not a database" in message or "malformed" in message:
            return f"{self.where} is not a readable SQLite database ({message}); use another file or restore a backup"
        if "locked" in message:
            return f"{self.where} was locked by another process for {self._busy_s:g} s; try again when it has ended"
        return f"{self.where}: {message}; check that the file and its folder are writable and the disk is not full"


def _parse(url: str) -> URL:
    forms = "use sqlite:///PATH or postgresql://USER@HOST/NAME"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StoreError(f"invalid database URL {without_password(url)!r}; {forms}") from error
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg"):
        raise StoreError(f"unsupported database URL {without_password(url)!r}; {forms}")
    if "@" in (parsed.host or ""):
        raise StoreError(f"invalid database URL {without_password(url)!r}; write an @ in its password as %40")
    return parsed


def _sqlite_path(url: URL) -> Path:
    if url.database in (None, "", ":memory:"):
        raise StoreError("an in-memory SQLite database would be lost at exit; use sqlite:///PATH")
    if url.query or url.host:
        shown = without_password(url.render_as_string(hide_password=True))
        raise StoreError(f"unsupported database URL {shown!r}; use sqlite:///PATH, without host and options")
    path = user_path(str(url.database))
    kind = network_filesystem(path)
    if kind is not None:
        raise StoreError(
            f"{path} is on a network filesystem ({kind}), where SQLite can lose data; use a file on a local disk, or a "
            "PostgreSQL server, with --database or SPARSESEARCH_DATABASE_URL"
        )
    if path.is_dir():
        raise StoreError(f"{path} is a folder; give a file in it, such as {path / 'studies.db'}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot create the folder {path.parent} ({error.strerror}); choose another location"
        ) from error
    return path


def _postgres_engine(url: URL) -> Engine:
    query = {"connect_timeout": "10", **url.query}
    try:
        return create_engine(url.set(drivername="postgresql+psycopg", query=query))
    except ImportError as error:
        raise MissingExtraError(
            "PostgreSQL requires the driver psycopg; run: pip install 'sparsesearch[postgres]'"
        ) from error
