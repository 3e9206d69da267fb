"""Which process runs which trial, as empty files in the folder of a study's work that all machines share."""

from __future__ import annotations

import logging
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from sparsesearch.files.durable import PRIVATE_FOLDER

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(\d+)-(\d+)@(.+)-(\d+)\.beat")


@dataclass(frozen=True)
class Beat:
    """A process that runs an attempt of a trial.

    Attributes:
        trial: Number of the trial.
        attempt: The attempt.
        host: Name of its machine.
        pid: Process id there.
    """

    trial: int
    attempt: int
    host: str
    pid: int

    @classmethod
    def here(cls, trial: int, attempt: int) -> Beat:
        """That of this process."""
        return cls(trial, attempt, socket.gethostname(), os.getpid())

    def begin(self, folder: Path) -> None:
        """Write the file; it is no error if it cannot be written, but then nobody notices that the process hangs."""
        try:
            folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)  # without parents: the disk may have gone away
            self._path(folder).touch(mode=0o600)
        except OSError as error:
            logger.debug("no sign of life is written: %s", error)

    def end(self, folder: Path) -> None:
        """Delete the file."""
        try:
            self._path(folder).unlink(missing_ok=True)
        except OSError as error:
            logger.debug("a sign of life is left: %s", error)

    def _path(self, folder: Path) -> Path:
        return folder / f"{self.trial:05d}-{self.attempt}@{self.host}-{self.pid}.beat"


def beats(folder: Path) -> list[Beat]:
    """All processes that run trials, as far as the folder can be read."""
    try:
        found = [match for name in os.listdir(folder) if (match := _NAME.fullmatch(name)) is not None]
    except OSError:
        return []
    return [Beat(int(match[1]), int(match[2]), match[3], int(match[4])) for match in found]
