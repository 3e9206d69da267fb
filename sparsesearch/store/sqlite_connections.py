"""Connections to a SQLite file: durable, with write transactions that wait for each other in short steps."""

from __future__ import annotations

import random
import sqlite3
import time

from sqlalchemy import Connection
from sqlalchemy.pool import ConnectionPoolEntry

WAIT_S = "sparsesearch_wait_s"
"""Execution option of write transactions: how long they wait for those of other connections, in seconds."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _PAUSE_GROWTH = 0.0005, 0.005, 1.1


def on_connect(connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
    """Set up a new connection."""
    connection.isolation_level = None  # otherwise the driver starts transactions implicitly
    cursor = connection.cursor()
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        mode = cursor.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise sqlite3.OperationalError(f"write-ahead logging cannot be enabled (journal mode is {mode})")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def on_begin(connection: Connection) -> None:
    """Start a transaction; one that writes locks the database."""
    wait_s = connection.get_execution_options().get(WAIT_S)
    if wait_s is None:
        connection.exec_driver_sql("BEGIN")
        return
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, sqlite3.Connection)
    busy_ms = driver.execute("PRAGMA busy_timeout").fetchone()[0]
    driver.execute("PRAGMA busy_timeout=0")
    try:
        if not _lock(driver, wait_s=wait_s):
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # raises what is wrong
    finally:
        driver.execute(f"PRAGMA busy_timeout={busy_ms}")


def _lock(driver: sqlite3.Connection, *, wait_s: float) -> bool:
    """Start a write transaction, if the lock is free in time and nothing else is wrong.

    SQLite's own waiting sleeps for up to 100 ms at a time. While other processes write one short transaction after the
    other, it misses nearly all moments in which the lock is free.
    """
    pause, until = _FIRST_PAUSE_S, time.monotonic() + wait_s
    while True:
        try:
            driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                return False
        else:
            return True
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(_LONGEST_PAUSE_S, pause * _PAUSE_GROWTH)
