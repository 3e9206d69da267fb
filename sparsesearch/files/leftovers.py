"""Names of temporary files, and the deletion of those whose writer was killed."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

SUFFIX = ".part"
OLD_S = 86400.0
"""Age at which the temporary file of another host is taken for a leftover; a writer touches its file all the time."""

_LOOK_EVERY_S = 600.0
_LONGEST_STEM = 40  # characters; a name has at most 255 bytes
_NAME = re.compile(r"\..*\.(?P<host>[0-9a-f]{12})\.(?P<pid>\d+)\.[0-9a-f]{12}\.part", re.DOTALL)
_OLDER_NAME = re.compile(r".+\.\d+\.part", re.DOTALL)  # of older versions: FILE.PID.part
_looked_at: dict[tuple[int, Path], float] = {}


def temporary_name(name: str) -> str:
    """A name for a file that becomes `name`; no other process uses it, on any host that shares the folder."""
    return f".{name[:_LONGEST_STEM]}.{_host()}.{os.getpid()}.{uuid4().hex[:12]}{SUFFIX}"


def remove_leftovers(folder: Path) -> None:
    """Delete the leftovers of a folder, at most every ten minutes; those that cannot be deleted stay."""
    now = time.monotonic()
    key = (os.getpid(), folder)
    if now - _looked_at.get(key, float("-inf")) < _LOOK_EVERY_S:
        return
    _looked_at[key] = now
    for path in leftovers(folder):
        with suppress(OSError):
            path.unlink()


def leftovers(folder: Path) -> list[Path]:
    """The temporary files of a folder whose writer was killed: on this host, or so long ago that it cannot be alive.

    Args:
        folder: Only its own files are looked at; one that does not exist has none.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(SUFFIX)]
    except OSError:
        return []
    return [folder / name for name in names if _is_leftover(folder / name)]


def _is_leftover(path: Path) -> bool:
    found = _NAME.fullmatch(path.name)
    if found is not None and found["host"] == _host():
        return not _is_alive(int(found["pid"]))
    if found is None and _OLDER_NAME.fullmatch(path.name) is None:
        return False
    try:
        return time.time() - path.stat().st_mtime > OLD_S
    except OSError:
        return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@cache
def _host() -> str:
    """What process ids are unique in: this boot of this host, and the container."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
