"""Paths as people type them."""

from __future__ import annotations

import os
from pathlib import Path

from sparsesearch.errors import UserInputError

_LONGEST_NAME = 255  # bytes, of all common file systems
_SHOWN = 60


def user_path(path: str | os.PathLike[str], *, error: type[UserInputError] = UserInputError) -> Path:
    """The absolute path of what somebody typed, with `~` and `~user` for home directories.

    Args:
        path: A path, of something that need not exist.
        error: What to raise.

    Raises:
        UserInputError: The user of `~user` has no home directory here, or a name is too long for a file system, with
            which every question about the file would fail.
    """
    try:
        found = Path(path).expanduser().absolute()
    except RuntimeError as failed:
        raise error(f"{os.fspath(path)!r} is in a home directory that is not known; give its whole path") from failed
    longest = max(found.parts, key=len)
    if len(os.fsencode(longest)) > _LONGEST_NAME:
        raise error(f"{longest[:_SHOWN] + '...'!r} is too long for the name of a file")
    return found
