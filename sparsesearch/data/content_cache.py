"""The cache of what is known about the contents of files, in one SQLite file that all processes share."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from sparsesearch.data.file_walk import FoundFile
from sparsesearch.files.durable import create_private

_FILE = "data-contents.sqlite"
_SETTLED_NS = 2_000_000_000
"""A file that changed this recently could change again without another time stamp, so that it is not stored."""
_TABLES = (
    "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, modified INTEGER, changed INTEGER, "
    "inode INTEGER, digest TEXT NOT NULL, decoded_by TEXT) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS broken (path TEXT, digest TEXT, found_at REAL, PRIMARY KEY (path, digest))",
    "CREATE TABLE IF NOT EXISTS derived (name TEXT PRIMARY KEY, content TEXT NOT NULL)",
)

_T = TypeVar("_T")
Row = tuple[tuple[int, int, int, int], str, str | None]
"""Key of the file, its digest, and the version of the decoder that decoded it in full."""


class ContentCache:
    """Digests of files, and facts that follow from contents; it can be deleted at any time.

    Where the file cannot be used (a read-only home, damage), nothing is stored, and `problem` says why.

    Args:
        folder: Where its file is.

    Attributes:
        folder: Where its file is.
        problem: Why it cannot be used; None if it can.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / _FILE
        self.problem: str | None = None

    def files(self, paths: Sequence[str]) -> dict[str, Row]:
        """What is stored about files, by path."""
        query = (
            "SELECT path, size, modified, changed, inode, digest, decoded_by FROM files "
            "WHERE path IN (SELECT value FROM json_each(?))"
        )
        rows = self._rows(query, json.dumps([path for path in paths if _is_text(path)]))
        return {row[0]: ((row[1], row[2], row[3], row[4]), row[5], row[6]) for row in rows}

    def keep_files(self, files: Sequence[FoundFile], digests: Sequence[str], *, decoded_by: str | None = None) -> None:
        """Store digests; `decoded_by` is the version of the decoder if it decoded all of these files."""
        rows = [
            (file.path, *file.key, digest, decoded_by)
            for file, digest in zip(files, digests, strict=True)
            if is_settled(max(file.key[1], file.key[2])) and _is_text(file.path)
        ]
        self._write("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def broken(self, below: str) -> list[list[tuple[str, str]]]:
        """Path and digest of images that were found broken below a folder: those found together, the latest first."""
        query = "SELECT path, digest, found_at FROM broken WHERE path >= ? AND path < ? ORDER BY found_at DESC, path"
        groups: dict[float, list[tuple[str, str]]] = {}
        for path, digest, found_at in self._rows(query, f"{below}/", f"{below}0"):
            groups.setdefault(found_at, []).append((path, digest))
        return list(groups.values())

    def keep_broken(self, paths: Sequence[str], digests: Sequence[str]) -> None:
        """Store that files with these contents cannot be decoded."""
        now = time.time()
        rows = [(path, digest, now) for path, digest in zip(paths, digests, strict=True) if _is_text(path)]
        self._write("INSERT OR IGNORE INTO broken VALUES (?, ?, ?)", rows)

    def derived(self, name: str) -> str | None:
        """What was stored under a name, which contains the digest of what it follows from."""
        rows = self._rows("SELECT content FROM derived WHERE name = ?", name)
        return str(rows[0][0]) if rows else None

    def keep_derived(self, name: str, content: str) -> None:
        """Store something that follows from contents."""
        self._write("INSERT OR REPLACE INTO derived VALUES (?, ?)", [(name, content)])

    def write(self, write: Callable[[], None]) -> None:
        """Write another file of the cache; an error is noted."""
        try:
            write()
        except OSError as error:
            self.problem = f"{self.folder} cannot be used ({error}); the data is looked through by every process"

    def _rows(self, query: str, *values: str) -> list[Any]:
        def read(tables: sqlite3.Connection) -> list[Any]:
            return tables.execute(query, values).fetchall()

        return self._in_tables(read) or []

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        def write(tables: sqlite3.Connection) -> None:
            with tables:
                tables.execute("BEGIN IMMEDIATE")
                tables.executemany(statement, rows)

        if rows:
            self._in_tables(write)

    def _in_tables(self, work: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """Do something with the tables; an error of their file is noted, and None returned."""
        try:
            create_private(self._path)
            with closing(sqlite3.connect(self._path, timeout=60, isolation_level=None)) as tables:
                for table in _TABLES:
                    tables.execute(table)
                return work(tables)
        except (OSError, sqlite3.Error, UnicodeEncodeError) as error:
            self.problem = f"{self._path} cannot be used ({error}); the contents of files are not remembered"
            return None


def is_settled(changed_ns: int) -> bool:
    """Whether a file that was changed then would have another time stamp if it were changed again."""
    return changed_ns < time.time_ns() - _SETTLED_NS


def _is_text(path: str) -> bool:
    """Whether a path can be stored: one with bytes that are no UTF-8 cannot, and its file is hashed each time."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
