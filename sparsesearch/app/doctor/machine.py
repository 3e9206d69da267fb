"""Limits of the machine: its clock, processes and open files."""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from sparsesearch.app.doctor.finding import FailedCheckError, Surroundings

_MAX_DIFFERENCE_S = 30.0
_FEW_FILES = 1024
_START_SECONDS = 45.0


def clock(surroundings: Surroundings) -> str:
    """The clock is not before this version was made, runs at its speed, and agrees with that of the storage."""
    now = time.time()
    made = Path(__file__).stat().st_mtime
    shown = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    if now < made - 86400.0:
        raise FailedCheckError(
            f"the clock shows {shown}, before sparsesearch was installed", fix="set it: timedatectl set-ntp true"
        )
    folder = next(each for each in (surroundings.storage, *surroundings.storage.absolute().parents) if each.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".sparsesearch-doctor-") as file:
            before = time.time()
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
            there = os.fstat(file.fileno()).st_mtime
            difference = there - (before + time.time()) / 2
    except OSError:
        return f"{shown}; the storage, which cannot be written, is not compared"
    if abs(difference) > _MAX_DIFFERENCE_S:
        raise FailedCheckError(
            f"the clock of {folder} is {difference:+.0f} s from that of this machine",
            fix="set the clocks of both machines by NTP: timedatectl set-ntp true",
        )
    return f"{shown}, the storage's is {difference:+.1f} s from it"


def loader(surroundings: Surroundings) -> str:
    """A process can be started as those that decode images are, and answers."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    started = time.monotonic()
    process = context.Process(target=_answer, args=(there,), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(_START_SECONDS):
            raise FailedCheckError(
                f"a process that was started has not answered for {_START_SECONDS:g} s",
                fix="check the load and the memory of the machine; or use --data-workers 0",
            )
        number = here.recv()
    except EOFError as error:
        process.join(1.0)
        raise FailedCheckError(
            f"a process that was started has ended with exit code {process.exitcode}",
            fix="check the memory of the machine (dmesg); or use --data-workers 0",
        ) from error
    finally:
        process.kill()
    assert number == process.pid
    return f"a process starts in {time.monotonic() - started:.1f} s"


def open_files(surroundings: Surroundings) -> str:
    """Ray and loader processes need many sockets and files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < _FEW_FILES:
        most = hard if hard >= 0 else 65536
        raise FailedCheckError(
            f"a process may open only {soft} files",
            fix=f"ulimit -n {most}" + ("" if hard < 0 or hard >= _FEW_FILES else ", after raising it in limits.conf"),
        )
    return f"a process may open {'any number of' if soft < 0 else f'{soft:,}'} files"


def _answer(to: Connection) -> None:
    to.send(os.getpid())
