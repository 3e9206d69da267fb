"""The progress of trainings in other processes, as one small file for each in a folder that they share."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from sparsesearch.files.durable import PRIVATE_FOLDER, write_file
from sparsesearch.study.progress import Bar, WorkProgress
from sparsesearch.study.work_board import BoardBar

logger = logging.getLogger(__name__)

_WRITE_SECONDS = 1.0
_READ_SECONDS = 1.0
_STALE_SECONDS = 120.0


class WorkFiles:
    """Writes the progress of this process's trainings, and reads that of all processes; see `Progress`.

    Progress is shown and nothing else, so a file that cannot be written or read is left out.

    Args:
        folder: The shared folder; created when it is needed, if the folder that it is in exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written_at = 0.0
        self._read_at = float("-inf")
        self._last: tuple[WorkProgress, ...] = ()

    def bar(self, label: str, total: int | None, *, trial: int | None = None, batch_size: int | None = None) -> Bar:
        """Make a bar that is written to a file while its block runs, at most once a second."""
        name = f"{os.getpid()}.json" if trial is None else f"{trial:05d}.json"
        path = self._folder / name
        return BoardBar(label, total, trial=trial, batch_size=batch_size, on_change=self._writer_of(path))

    def line(self, text: str) -> None:
        """Log the line: a worker has no terminal."""
        logger.warning("%s", text)

    def read(self) -> tuple[WorkProgress, ...]:
        """Return the progress of all processes, by trial; the folder is read at most once a second."""
        if time.monotonic() - self._read_at < _READ_SECONDS:
            return self._last
        self._read_at = time.monotonic()
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                if time.time() - path.stat().st_mtime < _STALE_SECONDS:
                    found.append(WorkProgress.model_validate_json(path.read_bytes()))
            except (OSError, ValidationError) as error:
                logger.debug("%s is left out: %s", path, error)
        self._last = tuple(found)
        return self._last

    def _writer_of(self, path: Path) -> Callable[[BoardBar, bool], None]:
        def write(bar: BoardBar, is_shown: bool) -> None:
            try:
                if not is_shown:
                    path.unlink(missing_ok=True)
                elif time.monotonic() - self._written_at >= _WRITE_SECONDS:
                    self._written_at = time.monotonic()
                    self._folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)  # without parents, see CheckpointFolder
                    write_file(path, bar.progress.model_dump_json(), is_private=True, is_synced=False)
            except OSError as error:
                logger.debug("%s is not written: %s", path, error)

        return write
