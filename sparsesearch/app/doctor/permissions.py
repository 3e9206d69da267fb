"""Who can read databases, checkpoints and logs."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from sparsesearch.app.doctor.disks import database_file
from sparsesearch.app.doctor.finding import FailedCheckError, Surroundings
from sparsesearch.text import counted

_STUDY = re.compile(r".+-[0-9a-f]{8}")  # see `study_folder`
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def permissions(surroundings: Surroundings) -> str:
    """What studies store belongs to the user and can be entered or read by nobody else."""
    mine = _user()
    found = sorted(set(_stored(surroundings)))
    for path in found:
        status = path.lstat()
        if status.st_uid != mine and mine != 0:
            raise FailedCheckError(
                f"{path} belongs to user {status.st_uid}, and this is user {mine}",
                fix=f"run as that user, or: sudo chown -R {mine} {path}",
            )
        if status.st_mode & _OTHERS:
            readers = "everybody" if status.st_mode & stat.S_IRWXO else "the group"
            raise FailedCheckError(
                f"{path} is open to {readers} (mode {stat.S_IMODE(status.st_mode):04o})", fix=f"chmod go= {path}"
            )
    return f"{counted(len(found), 'file or folder', 'files and folders')}, open to this user alone"


def _stored(surroundings: Surroundings) -> Iterator[Path]:
    """The database, and the folders of studies; a folder that nobody else can enter protects what is in it."""
    settings = surroundings.settings
    database = database_file(surroundings)
    if database is not None and database.is_file() and not _is_closed(database.parent):
        yield database
    for folder in _folders(surroundings):
        if settings.home.is_dir() and _is_closed(settings.home) and folder.is_relative_to(settings.home):
            yield settings.home
        else:
            yield folder


def _folders(surroundings: Surroundings) -> Iterator[Path]:
    """The folders of studies and of caches; a storage may contain other things too."""
    root = surroundings.storage
    if root.is_dir():
        yield from (path for path in sorted(root.iterdir()) if _STUDY.fullmatch(path.name) and path.is_dir())
    yield from (path for path in (surroundings.settings.cache, root / ".cache") if path.is_dir())


def _user() -> int:
    return os.geteuid()


def _is_closed(folder: Path) -> bool:
    return not folder.stat().st_mode & _OTHERS
