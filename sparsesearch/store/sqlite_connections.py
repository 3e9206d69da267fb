"""Connections to a SQLite file: durable, private, with write transactions that wait for each other in short steps."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection

from sparsesearch.errors import StoreError, StoreUnavailableError

WAIT_S = "sparsesearch_wait_s"
"""Execution option of write transactions: returns how many seconds they wait for those of other connections."""

_PAUSE_S, _LATER_PAUSE_S = 0.0005, 0.005
_LATER_S = 1.0  # after that, another process keeps the lock, and is not one of several that write in turn


class SqliteFile:
    """The file of a database. Thread-safe.

    It is created when it is first opened, readable by its owner only, as are its -wal and -shm files.
    After that it must stay the same file: a study would otherwise go on in one that nobody can reach, or in another.

    Args:
        path: The file, which need not exist.
        busy_s: How long reading waits for a lock, in seconds.
    """

    def __init__(self, path: Path, *, busy_s: float) -> None:
        self._path = path
        self._busy_s = busy_s
        self._lock = threading.Lock()
        self._identity: tuple[int, int] | None = None

    def connect(self) -> sqlite3.Connection:
        """Open a connection; for SQLAlchemy."""
        with self._lock:
            if self._identity is None:
                # Never a file that exists: closing it would drop the locks of every connection of this process to it.
                # What is wrong with the location is said by SQLite, below.
                with contextlib.suppress(OSError):
                    os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            else:
                self.check()
            uri = f"file:{quote(os.fsencode(self._path))}?mode=rw"
            connection = sqlite3.connect(uri, uri=True, timeout=self._busy_s, check_same_thread=False)
            try:
                _set_up(connection)
                if self._identity is None:
                    self._identity = _identity(self._path)
            except BaseException:
                connection.close()
                raise
            return connection

    def check(self) -> None:
        """Check that the file is the one that was opened.

        Raises:
            StoreUnavailableError: It is not there.
            StoreError: It was replaced.
        """
        try:
            found = _identity(self._path)
        except OSError as error:
            raise StoreUnavailableError(
                f"{self._path} was deleted or moved while it was in use ({error.strerror}); put it back, with its "
                "files -wal and -shm"
            ) from error
        if self._identity is not None and found != self._identity:
            raise StoreError(
                f"{self._path} was replaced by another file while it was in use, and nothing was written to that; put "
                "the first one back, or run the command again to use the new one"
            )

    def on_begin(self, connection: Connection) -> None:
        """Start a transaction; one that writes locks the database."""
        self.check()
        wait_s: Callable[[], float] | None = connection.get_execution_options().get(WAIT_S)
        if wait_s is None:
            connection.exec_driver_sql("BEGIN")
            return
        driver = connection.connection.dbapi_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.execute("PRAGMA busy_timeout=0")
        try:
            if not _lock(driver, wait_s=wait_s()):
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # raises what is wrong
        finally:
            driver.execute(f"PRAGMA busy_timeout={round(1000 * self._busy_s)}")


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _set_up(connection: sqlite3.Connection) -> None:
    connection.isolation_level = None  # otherwise the driver starts transactions implicitly
    cursor = connection.cursor()
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        mode = cursor.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise sqlite3.OperationalError(f"write-ahead logging cannot be enabled (journal mode is {mode})")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _lock(driver: sqlite3.Connection, *, wait_s: float) -> bool:
    """Start a write transaction, if the lock is free in time and nothing else is wrong.

    SQLite's own waiting sleeps for up to 100 ms at a time. While other processes write one short transaction after the
    other, it misses nearly all moments in which the lock is free: a process that writes again needs less than 1 ms.
    """
    started = time.monotonic()
    while True:
        try:
            driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            waited = time.monotonic() - started
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or waited >= wait_s:
                return False
        else:
            return True
        time.sleep((_PAUSE_S if waited < _LATER_S else _LATER_PAUSE_S) * random.uniform(0.5, 1.5))
