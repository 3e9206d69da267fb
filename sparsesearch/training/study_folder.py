"""The folder with the checkpoints of a study; no tensors are read."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from sparsesearch.study.trial import CheckpointRef


def study_folder(root: Path, study: str, uid: str = "") -> Path:
    """Return the folder of a study under a storage root.

    Args:
        root: Storage root.
        study: Name of the study.
        uid: Its unique id, since studies of two databases may share name and root; empty in older versions.
    """
    return root / (f"{study}-{uid[:8]}" if uid else study)


def remove_study_folder(root: Path, study: str, uid: str = "") -> None:
    """Delete the folder of a study with its checkpoints, if there is one."""
    folder = study_folder(root, study, uid)
    if folder.is_dir():
        shutil.rmtree(folder)


def remove_older_files(root: Path, study: str, refs: Iterable[CheckpointRef]) -> None:
    """Delete the checkpoints of a study that an older version stored in a folder named by the study alone.

    Another study of that name may have its files there, so only those with a recorded hash are deleted.
    """
    folder = study_folder(root, study)
    for ref in refs:
        path = folder / ref.uri.rpartition("/")[2]
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == ref.sha256:
            path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
