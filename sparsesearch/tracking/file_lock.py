"""One process at a time copies a study."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FileLock:
    """Lets the copies of one study take turns, whichever processes they are in.

    Args:
        path: A file that they share.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = uuid.uuid4().hex

    @contextmanager
    def take(self) -> Iterator[bool]:
        """Wait for a turn and have it.

        Yields:
            Whether nobody else has had a turn since our last one, so that what we know still holds.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            token = self._token.encode()
            is_unchanged = os.pread(descriptor, 64, 0) == token
            if not is_unchanged:
                os.truncate(descriptor, 0)
                os.pwrite(descriptor, token, 0)
            yield is_unchanged
        finally:
            os.close(descriptor)  # gives the turn back
