"""The time that decides leases: a clock that nobody sets, or that of the database server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, Double, func, select

_PROC = Path("/proc")

SERVER_TIME = func.extract("epoch", func.clock_timestamp()).cast(Double)
"""Unix time of a PostgreSQL server, as it goes on within a transaction."""

_READ_SERVER_TIME = select(SERVER_TIME)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A point in time.

    Attributes:
        time: Unix time in seconds. It jumps when somebody sets the clock.
        steady: Seconds of a clock that does not jump, and whose zero is that of `boot`.
        boot: Identity of the steady clock: two processes of a machine have the same one until it is restarted. None if
            there is no such clock, or if another one decides.
    """

    time: float
    steady: float
    boot: str | None

    @classmethod
    def of_machine(cls) -> Moment:
        """Return the current time of this machine."""
        return cls(time=time.time(), steady=time.monotonic(), boot=_steady_clock())

    @classmethod
    def of_clock(cls, clock: Callable[[], float]) -> Moment:
        """Return the current time of a clock that is given, for tests."""
        now = clock()
        return cls(time=now, steady=now, boot="given")

    @classmethod
    def of_server(cls, connection: Connection) -> Moment:
        """Return the current time of the database server; only its clock is shared by all who use it."""
        return cls(time=connection.execute(_READ_SERVER_TIME).scalar_one(), steady=time.monotonic(), boot=None)


def boot_id() -> str:
    """Return an identity of this machine since it was started, `-` if the system does not provide it."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "-"


@cache
def _steady_clock() -> str | None:
    """The monotonic clock counts from the start of the machine, unless its namespace shifts it."""
    boot = boot_id()
    try:
        return None if boot == "-" else f"{boot}/{os.readlink(_PROC / 'self/ns/time')}"
    except OSError:
        return boot
