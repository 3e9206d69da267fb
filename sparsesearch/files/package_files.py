"""Locate the folders shipped with the package: `spaces`, `db`, `workers`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def bundled(name: Literal["spaces", "db", "workers"]) -> Path:
    """Return a folder of shipped files: inside an installed wheel, or next to the package in a checkout.

    Raises:
        FileNotFoundError: The installation is incomplete.
    """
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "_bundled" / name, package.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"the folder {name!r} is missing from this installation of sparsesearch; reinstall it")
