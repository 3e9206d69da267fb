"""Folders: they can be written, have room, are not on a network where SQLite is, and contain no leftovers."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from sparsesearch.app.doctor.finding import FailedCheckError, Surroundings
from sparsesearch.files.leftovers import leftovers
from sparsesearch.files.user_path import user_path
from sparsesearch.infrastructure import infrastructure_fault
from sparsesearch.store.filesystem import network_filesystem
from sparsesearch.text import counted, size_text

SHARED_MEMORY = Path("/dev/shm")
_GB = 10**9
NEEDED = {
    "home": 1 * _GB,
    "storage": 5 * _GB,
    "database folder": _GB // 5,
    "temporary folder": 1 * _GB,
    "shared memory": _GB // 4,
}
"""Free bytes that a study of a small backbone needs: its checkpoints are weights and two moments, 0.3 GB each for
deit_s, of which a training keeps two, and weights of each finalist; Ray and loader processes use the last two."""
_FEW_INODES = 1000
_MANY_LEFT = 100 * 10**6


def home(surroundings: Surroundings) -> str:
    """The home folder."""
    return _room(surroundings.settings.home, "home", how="SPARSESEARCH_HOME")


def storage(surroundings: Surroundings) -> str:
    """The folder of the checkpoints."""
    return _room(surroundings.storage, "storage", how="--storage PATH")


def database_folder(surroundings: Surroundings) -> str:
    """The folder of a database file."""
    path = database_file(surroundings)
    if path is None:
        return "the database is on a server"
    return _room(path.parent, "database folder", how="--database URL")


def temporary_folder(surroundings: Surroundings) -> str:
    """The folder of temporary files, Ray's included."""
    return _room(Path(tempfile.gettempdir()), "temporary folder", how="TMPDIR")


def shared_memory(surroundings: Surroundings) -> str:
    """Shared memory, through which processes exchange images."""
    if not SHARED_MEMORY.is_dir():
        raise FailedCheckError(f"{SHARED_MEMORY} does not exist", fix="mount a tmpfs there")
    return _room(SHARED_MEMORY, "shared memory", how="docker run --shm-size=1g")


def network_filesystem_check(surroundings: Surroundings) -> str:
    """SQLite files are on a local filesystem."""
    found = []
    for path in (database_file(surroundings), _mlflow_file(surroundings)):
        if path is None:
            continue
        kind = network_filesystem(path)
        if kind is not None:
            raise FailedCheckError(
                f"{path} is on a network filesystem ({kind}), where SQLite can lose data",
                fix="use a file on a local disk, or a PostgreSQL server: --database, SPARSESEARCH_DATABASE_URL",
            )
        found.append(path.name)
    return f"{' and '.join(found)}: on a local filesystem" if found else "no SQLite file is used"


def leftover_files(surroundings: Surroundings) -> str:
    """Temporary files of killed processes are deleted by the next one that writes to their folder."""
    roots = {surroundings.settings.home, surroundings.storage}
    found = [path for folder in _folders(roots) for path in leftovers(folder)]
    size = sum(path.stat().st_size for path in found if path.exists())
    if size > _MANY_LEFT:
        folder = found[0].parent
        raise FailedCheckError(
            f"{counted(len(found), 'temporary file')} of killed processes with {size_text(size)}, e.g. in {folder}",
            fix=f"resume the study, which deletes them; or delete them: find {folder} -name '.*.part' -delete",
        )
    return f"{counted(len(found), 'temporary file')} of killed processes" if found else "none"


def database_file(surroundings: Surroundings) -> Path | None:
    """The file of the study database; None if it is on a server or the address is invalid."""
    return _file_of(surroundings.settings.database_url)


def _mlflow_file(surroundings: Surroundings) -> Path | None:
    return _file_of(surroundings.settings.mlflow_uri)


def _file_of(url: str) -> Path | None:
    if not url.startswith("sqlite"):
        return None
    try:
        name = make_url(url).database
    except ArgumentError:
        return None
    return None if name in (None, "", ":memory:") else user_path(str(name))


def _folders(roots: set[Path]) -> Iterator[Path]:
    seen = set()
    for root in sorted(roots):
        for name, _, _ in os.walk(root):
            if name not in seen:
                seen.add(name)
                yield Path(name)


def _room(folder: Path, name: str, *, how: str) -> str:
    """Write a file, and compare the free space with what is needed."""
    existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    other = f"use another place: {how}" if name != "shared memory" else f"give the container more: {how}"
    if not existing.is_dir():
        raise FailedCheckError(f"{existing} is a file, not a folder", fix=other)
    usage, status = shutil.disk_usage(existing), os.statvfs(existing)
    probe = existing / f".sparsesearch-doctor-{uuid4().hex}"
    try:
        try:
            probe.write_bytes(os.urandom(4096))
            with probe.open("rb") as file:
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        fault = infrastructure_fault(error)
        if fault is not None and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FailedCheckError(
                f"{existing} is full ({error.strerror})", fix=f"delete something there, or {other}"
            ) from error
        raise FailedCheckError(
            f"cannot write to {existing} ({error.strerror})", fix=f"make it writable, or {other}"
        ) from error
    needed = NEEDED[name]
    if usage.free < needed:
        raise FailedCheckError(
            f"{existing} has {size_text(usage.free)} free, and a study needs {size_text(needed)}",
            fix=f"delete something there, or {other}",
        )
    if status.f_files and status.f_favail < _FEW_INODES:
        raise FailedCheckError(
            f"{existing} has room for only {status.f_favail} more files", fix=f"delete files there, or {other}"
        )
    new = "" if existing == folder else f", to be created in {existing}"
    return f"{folder}{new}: {size_text(usage.free)} free"
