"""Which errors of database drivers pass: those of disks, locks, servers and networks."""

from __future__ import annotations

import sqlite3

_SQLITE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOMEM,
    }
)

# Class 08: connections; 53: disk full, memory, too many connections; 57P: shut down, crashed, starting up.
_POSTGRES_CLASSES = ("08", "53", "57P")
_POSTGRES = frozenset(
    {
        "25006",  # read-only transaction: the server that answers is a standby
        "40001",  # serialization failure
        "40P01",  # deadlock
        "55P03",  # lock not available
        "58030",  # I/O error
        "58P01",  # a file of the server is missing
    }
)
_NOT_PASSING = ("authentication failed", "does not exist", "no pg_hba.conf entry", "no password supplied")


def is_passing(error: BaseException) -> bool:
    """Whether an error of a driver may be gone when the same is tried later.

    Args:
        error: Of sqlite3 or psycopg.
    """
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _SQLITE
    state = getattr(error, "sqlstate", None)
    if state is not None:
        return state in _POSTGRES or state.startswith(_POSTGRES_CLASSES)
    # Without a state, the connection could not be made, or was lost.
    names = {kind.__name__ for kind in type(error).__mro__}
    return "OperationalError" in names and not any(words in str(error) for words in _NOT_PASSING)
