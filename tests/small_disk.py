"""Really full, really small disks, which only root can mount."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest


class CannotMountError(Exception):
    """Mounting is not allowed here; the message says why."""


@contextmanager
def mounted_disk(place: Path, *, kilobytes: int) -> Iterator[Path]:
    """Mount a disk of a few kilobytes, empty, while the block runs.

    Raises:
        CannotMountError: It is not allowed.
    """
    if os.geteuid():
        raise CannotMountError("mounting a small disk needs root")
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)], capture_output=True, text=True
    )
    if done.returncode:
        raise CannotMountError(f"mounting a small disk needs root with all rights: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def small_disk(place: Path, *, kilobytes: int) -> Iterator[Path]:
    """Such a disk for a test, which is skipped where mounting is not allowed."""
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(mounted_disk(place, kilobytes=kilobytes))
        except CannotMountError as error:
            pytest.skip(str(error))
        yield disk
