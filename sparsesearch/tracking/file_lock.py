"""A lock so that only one process at a time syncs a study."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FileLock:
    """A lock between processes, in a file.

    Args:
        path: The shared lock file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = uuid.uuid4().hex

    @contextmanager
    def acquire(self) -> Iterator[bool]:
        """Wait for the lock and hold it while the block runs.

        Yields:
            Whether no other object has acquired the lock since this one last did, so that cached state is still valid.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            token = self._token.encode()
            is_unchanged = os.pread(descriptor, 64, 0) == token
            if not is_unchanged:
                os.truncate(descriptor, 0)
                os.pwrite(descriptor, token, 0)
            yield is_unchanged
        finally:
            os.close(descriptor)  # releases the lock
