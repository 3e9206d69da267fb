"""The lease of a study: which process may write to it, and when that process counts as lost."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from sparsesearch.errors import StudyBusyError
from sparsesearch.store.moment import Moment, boot_id

LEASE_SECONDS = 60.0
"""How long a lease is valid without being renewed."""

_PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class OwnerProcess:
    """A process that can own a lease.

    Attributes:
        host: Host name, for messages.
        machine: Identity of the process id's namespace: host, boot and, in containers, process namespace.
        pid: Process id.
        process_start: Start time of the process, in clock ticks since boot; None if the system does not provide it.
            It distinguishes processes with the same, reused id.
    """

    host: str
    machine: str
    pid: int
    process_start: int | None

    @classmethod
    def current(cls) -> OwnerProcess:
        """Return this process."""
        host = platform.node() or "localhost"
        parts = [host, boot_id(), _pid_namespace()]
        return cls(host=host, machine="/".join(parts), pid=os.getpid(), process_start=_process_start(os.getpid()))

    def is_gone(self) -> bool:
        """Whether the process has certainly ended: it ran on this machine and no longer exists."""
        if os.name != "posix" or self.machine != OwnerProcess.current().machine:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False  # it exists and belongs to another user
        if _is_zombie(self.pid):
            return True
        now = _process_start(self.pid)
        return now is not None and self.process_start is not None and now != self.process_start


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to write to one study.

    Attributes:
        owner: Token of the writer that owns the lease, None if it is free.
        generation: How many times the study was opened.
        expires_at: When it expires unless it is renewed, in Unix time.
        steady_until: The same by a steady clock of the owner, which decides where it is known: the time of day jumps.
        boot: Identity of that clock; None if it is not known.
        process: The process of the last owner.
        work: What its trainings have done, as JSON; None if that is not known.
        active_s: Seconds that processes have owned it, up to its last renewal.
    """

    owner: str | None
    generation: int
    expires_at: float
    process: OwnerProcess
    work: str | None = None
    active_s: float = 0.0
    steady_until: float | None = None
    boot: str | None = None

    @classmethod
    def new(cls, *, owner: str | None, generation: int, now: Moment, lease_s: float, active_s: float = 0.0) -> Lease:
        """Create a lease of this process.

        Args:
            owner: A unique token of the writer; None for a lease that is free.
            generation: How many times the study was opened.
            now: The current time.
            lease_s: Seconds until it expires.
            active_s: Seconds that processes have owned it.
        """
        return cls(
            owner=owner,
            generation=generation,
            expires_at=now.time + lease_s,
            process=OwnerProcess.current(),
            active_s=active_s,
            steady_until=now.steady + lease_s,
            boot=now.boot,
        )

    def left_s(self, *, now: Moment) -> float:
        """Seconds until it expires, not positive if it has expired."""
        if self.steady_until is not None and self.boot is not None and self.boot == now.boot:
            return self.steady_until - now.steady
        return self.expires_at - now.time

    def is_leased(self, *, now: Moment) -> bool:
        """Whether the lease has an owner that appears to be alive."""
        return self.owner is not None and self.left_s(now=now) > 0 and not self.process.is_gone()

    def check_free(self, *, study: str, now: Moment) -> None:
        """Check that the lease can be acquired.

        Raises:
            StudyBusyError: Its owner is alive.
        """
        if not self.is_leased(now=now):
            return
        raise StudyBusyError(
            f"study {study!r} is being run by process {self.process.pid} on {self.process.host}; wait for it to end or "
            f"stop it (its lease expires in {max(1, round(self.left_s(now=now)))} s unless renewed)"
        )


def _pid_namespace() -> str:
    try:
        return os.readlink(_PROC / "self/ns/pid")
    except OSError:
        return "-"


def _stat(pid: int) -> list[str]:
    """Return the fields of `/proc/PID/stat` after the command name, or an empty list."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _is_zombie(pid: int) -> bool:
    fields = _stat(pid)
    return bool(fields) and fields[0] in ("Z", "X")


def _process_start(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[19]) if len(fields) > 19 else None
