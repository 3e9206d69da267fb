"""Check where output goes before the work: what took work is never overwritten unasked."""

from __future__ import annotations

import os
from pathlib import Path

from sparsesearch.errors import SpecError


def check_output_file(path: Path) -> Path:
    """Check that a file can be written, so that a command fails before its work and not after it.

    Raises:
        SpecError: The path is a folder, or is not writable.
    """
    if path.is_dir():
        raise SpecError(f"{path} is a folder; give the name of a file in it")
    check_folder(path.parent)
    return path


def check_new_file(path: Path, *, force: bool) -> Path:
    """Check that a file can be written without losing another, for files that took work: recipes, models, profiles.

    Pictures and reports, which can be drawn again from what is stored, are overwritten.

    Args:
        path: The file.
        force: Whether it may exist.

    Raises:
        SpecError: It exists, is a folder, or is not writable.
    """
    if check_output_file(path).exists() and not force:
        raise SpecError(
            f"{path} already exists; choose another file, or overwrite it with --force (in Python: force=True)"
        )
    return path


def check_folder(path: Path) -> Path:
    """Check that files can be written into a folder, which need not exist yet.

    Raises:
        SpecError: Part of the path is a file, or the folder is not writable.
    """
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise SpecError(f"{nearest} is a file, not a folder; choose another path")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise SpecError(f"the folder {nearest} is not writable; choose another path")
    return path
