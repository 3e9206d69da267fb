"""Tell faults of disks, mounts, networks and machines from those of the program or its input."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from sparsesearch.errors import InfrastructureError, one_line

_NETWORK = "the network, or the other end of a connection, failed"
_MACHINE = "this machine is at a limit"

_FAULTS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EIO: "the disk failed",
    errno.EREMOTEIO: "the disk failed",
    errno.EUCLEAN: "the filesystem is damaged",
    errno.EROFS: "the filesystem is read-only",
    errno.ESTALE: "the network filesystem has gone away",
    errno.ENOTCONN: "the network filesystem has gone away",
    errno.ENODEV: "the device has gone away",
    errno.ENXIO: "the device has gone away",
    errno.EHOSTDOWN: _NETWORK,
    errno.EHOSTUNREACH: _NETWORK,
    errno.ENETDOWN: _NETWORK,
    errno.ENETUNREACH: _NETWORK,
    errno.ENETRESET: _NETWORK,
    errno.ETIMEDOUT: _NETWORK,
    errno.ECONNRESET: _NETWORK,
    errno.ECONNREFUSED: _NETWORK,
    errno.ECONNABORTED: _NETWORK,
    errno.ENOMEM: f"{_MACHINE}: it has no memory left",
    errno.EMFILE: f"{_MACHINE}: too many files are open in this process (see ulimit -n)",
    errno.ENFILE: f"{_MACHINE}: too many files are open",
}
"""By error number: what failed. Numbers that also follow from wrong input, such as EACCES, are not among them."""

_TEXTS = {
    **{os.strerror(number): what for number, what in _FAULTS.items() if number != errno.ENOMEM},
    "file write failed": _FAULTS[errno.ENOSPC],
    "] . unexpected pos ": _FAULTS[errno.ENOSPC],
    "can't start new thread": f"{_MACHINE}: it cannot start another thread (see ulimit -u)",
    "out of shared memory": f"{_MACHINE}: its shared memory, /dev/shm, is full",
    "is killed by signal: Killed": f"{_MACHINE}: it has killed a process, as when its memory is used up",
    "uncorrectable ECC error": "the GPU failed",
    "GPU is lost": "the GPU failed",
    "device(s) is/are busy or unavailable": "the GPU is used by another process",
    "Connection closed by peer": _NETWORK,
}
"""Parts of messages of libraries that raise their own exceptions for such faults.

Too little memory is not among them, since a model can be too large for any machine.
"""

_LIBRARY_ERRORS = {"RuntimeError", "SafetensorError", "AcceleratorError", "DistBackendError", "DistNetworkError"}
_SQLITE_FAULTS = {"SQLITE_FULL": _FAULTS[errno.ENOSPC], "SQLITE_IOERR": _FAULTS[errno.EIO]}
_SQLITE_NAME = re.compile(r"SQLITE_[A-Z]+")


def infrastructure_fault(error: BaseException, *, folders: Collection[Path] = ()) -> InfrastructureError | None:
    """Return the fault of disk, mount, network or machine that led to an exception; None if it was nothing like that.

    An exception counts that is one, was raised from one (`raise ... from ...`), or wraps one, as those of SQLAlchemy
    and Ray do. A missing file counts only where `folders` show that its filesystem has gone away: one that was never
    there is a fault of the input.

    Args:
        error: Any exception.
        folders: Folders that existed when the work began, such as that of the study's checkpoints.

    Returns:
        An error with one line: what failed, where, and the message of the system.
    """
    for each in _chain(error):
        if isinstance(each, InfrastructureError):
            return each
        found = _described(each, folders)
        if found is not None:
            fault = InfrastructureError(f"{found} ({one_line(each) if isinstance(each, Exception) else each!r})")
            fault.__cause__ = error
            return fault
    return None


def _described(error: BaseException, folders: Collection[Path]) -> str | None:
    if isinstance(error, FileNotFoundError):
        gone = next((folder for folder in folders if not os.path.isdir(folder)), None)
        return None if gone is None else f"the folder {gone} has gone away; mount it again"
    if isinstance(error, OSError) and error.errno in _FAULTS:
        return _FAULTS[error.errno]
    if isinstance(error, ConnectionError):
        return _NETWORK
    name = _SQLITE_NAME.match(str(getattr(error, "sqlite_errorname", "")))
    if name is not None and name.group() in _SQLITE_FAULTS:
        return f"the database cannot be used: {_SQLITE_FAULTS[name.group()]}"
    if type(error).__name__ in _LIBRARY_ERRORS:
        text = str(error)
        return next((what for part, what in _TEXTS.items() if part in text), None)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, and those that it was raised from or wraps, each once."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, BaseException) and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [each.__cause__, getattr(each, "orig", None), getattr(each, "cause", None)]
