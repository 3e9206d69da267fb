"""A request to stop that other processes see: a file in a folder that they share."""

from __future__ import annotations

import time
from pathlib import Path

from sparsesearch.files.durable import PRIVATE_FOLDER, write_file
from sparsesearch.study.stop import StopCause, StopToken

_LOOK_SECONDS = 1.0


class StopFile:
    """The request that the processes of one run stop.

    Args:
        folder: The shared folder; created when the request is written, if the folder that it is in exists.
        run: Unique id of the run.
    """

    def __init__(self, folder: Path, *, run: str) -> None:
        self._path = folder / f"stop-{run}"

    def write(self, cause: StopCause) -> None:
        """Ask all processes of the run to stop; if the disk of the folder has gone away, none of them can see it."""
        try:
            self._path.parent.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        except FileNotFoundError:
            return
        write_file(self._path, cause.value, is_private=True, is_synced=False)

    def remove(self) -> None:
        """Delete the file, once no process of the run is left."""
        self._path.unlink(missing_ok=True)

    def token(self) -> StopToken:
        """A token that is set while the file exists; it looks at most once a second."""
        return _Following(self._path)


class _Following(StopToken):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._looked_at = float("-inf")

    @property
    def cause(self) -> StopCause | None:
        if self._cause is None and time.monotonic() - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = time.monotonic()
            try:
                self.stop(StopCause(self._path.read_text(encoding="utf-8")))
            except FileNotFoundError:
                return None
        return self._cause
