"""Reads the tables of a study without the program's own code."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

from tests.chaos.study import NAME, Place

_TRIALS = (
    "number, state, attempt, fidelity, origin, label, key, seed, parent, macs, params, schedule, checkpoint_sha256"
)
_MEASUREMENTS = "number, step, attempt, fidelity, metrics, seed"
Row = tuple[Any, ...]


def query(place: Place, statement: str) -> list[Row]:
    """Rows of a statement; empty while the database has no such table."""
    if place.url.startswith("sqlite:///"):
        path = place.url.removeprefix("sqlite:///")
        if not Path(path).exists():
            return []
        connection = sqlite3.connect(path, timeout=30.0)
        try:
            return connection.execute(statement).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise
        finally:
            connection.close()
    import psycopg

    with psycopg.connect(place.url, connect_timeout=10) as connected:
        try:
            return connected.execute(statement).fetchall()
        except psycopg.errors.UndefinedTable:
            return []


def events(place: Place) -> int:
    """How much is stored: trials, measurements, and trials that ended."""
    counts = query(place, "SELECT count(*) FROM trials") + query(place, "SELECT count(*) FROM measurements")
    ended = query(place, "SELECT count(*) FROM trials WHERE state NOT IN ('WAITING', 'RUNNING')")
    return sum(row[0] for row in counts + ended)


def is_finished(place: Place) -> bool:
    """Whether the study has ended."""
    return query(place, f"SELECT state FROM studies WHERE name = '{NAME}'") == [("FINISHED",)]


def contents(place: Place) -> dict[str, list[Row]]:
    """Trials and measurements, without clocks and reasons."""
    return {
        "trials": query(place, f"SELECT {_TRIALS} FROM trials ORDER BY number"),
        "measurements": query(place, f"SELECT {_MEASUREMENTS} FROM measurements ORDER BY number, step"),
    }


def problems(place: Place, calm: dict[str, list[Row]]) -> list[str]:
    """What does not hold in a study that has finished.

    Inline, with one thread, its tables are those of a study that was left alone, to the last bit. On Ray, timing
    decides what is proposed: the same numbers of trials and epochs, none failed, none lost, none doubled.
    """
    found = contents(place)
    wrong: list[str] = []
    if not is_finished(place):
        wrong.append("the study is not FINISHED")
    was_killed = place.codes[-2:-1] == [-9]  # perhaps after its end, and then its lease ends by itself
    if query(place, "SELECT owner FROM leases") != [(None,)] and not was_killed:
        wrong.append("the lease is not free")
    if [row[0] for row in found["trials"]] != list(range(len(found["trials"]))):
        wrong.append("numbers of trials are missing")
    if place.dispatcher == "inline":
        wrong += [f"{name} differ from those of a study left alone" for name in calm if found[name] != calm[name]]
    else:
        for name, column in (("trials", (3, 1)), ("measurements", (3, 1))):
            kinds = [Counter(tuple(row[i] for i in column) for row in rows[name]) for rows in (found, calm)]
            if kinds[0] != kinds[1]:
                wrong.append(f"{name} are {dict(kinds[0])} where a study left alone has {dict(kinds[1])}")
        steps = [(row[0], row[1]) for row in found["measurements"]]
        if len(set(steps)) != len(steps):
            wrong.append("measurements are doubled")
    return wrong + _damaged(place)


def _damaged(place: Place) -> list[str]:
    """Trainings whose file is not what was recorded."""
    wrong = []
    for uri, digest in query(
        place, "SELECT checkpoint_uri, checkpoint_sha256 FROM trials WHERE checkpoint_uri IS NOT NULL"
    ):
        paths = [path for path in place.storage.glob(f"{NAME}*/**/*") if str(path).endswith(uri.split("/")[-1])]
        if not any(hashlib.sha256(path.read_bytes()).hexdigest() == digest for path in paths if path.is_file()):
            wrong.append(f"the checkpoint {uri} is not what was recorded")
    return wrong
