"""The folder with the checkpoints of a study; no tensors are read."""

from __future__ import annotations

import shutil
from pathlib import Path


def study_folder(root: Path, study: str) -> Path:
    """Return the folder of a study under a storage root."""
    return root / study


def remove_study_folder(root: Path, study: str) -> None:
    """Delete the folder of a study with its checkpoints, if there is one."""
    folder = study_folder(root, study)
    if folder.is_dir():
        shutil.rmtree(folder)
