"""The command line of this process, as others see it."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

from sparsesearch.redact import without_password

_ARGUMENTS_START, _ARGUMENTS_END = 47, 48  # in /proc/PID/stat, from 0


def hide_passwords() -> None:
    """Overwrite passwords in the arguments of this process, which `ps` shows to everybody and Ray to its cluster.

    The arguments that Python has stay as they are. Where the arguments cannot be found, nothing happens.
    """
    try:
        shown = Path("/proc/self/cmdline").read_bytes()
        hidden = b"\0".join(_hidden(argument) for argument in shown.split(b"\0"))
        if hidden == shown:
            return
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        start, end = int(fields[_ARGUMENTS_START - 2]), int(fields[_ARGUMENTS_END - 2])
    except (OSError, ValueError, IndexError):
        return
    if len(shown) == len(hidden) == end - start and ctypes.string_at(start, len(shown)) == shown:
        ctypes.memmove(start, hidden, len(hidden))


def _hidden(argument: bytes) -> bytes:
    """An argument with its passwords replaced by as many bytes."""
    text = argument.decode("utf-8", "surrogateescape")
    hidden = without_password(text).encode("utf-8", "surrogateescape")
    missing = len(argument) - len(hidden)
    if hidden == argument:
        return argument
    if missing < 0:  # a password of one or two bytes
        return re.sub(rb"[^/]", b"*", argument)
    return hidden.replace(b"***", b"*" * (3 + missing), 1)
