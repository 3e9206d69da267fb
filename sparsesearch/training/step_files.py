"""Checkpoints of a training under way, written every few minutes; the newest whole one is used."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from sparsesearch.errors import CheckpointError, DamagedFileError, InfrastructureError
from sparsesearch.training.checkpoints import read_tensors, set_aside, write_tensors

logger = logging.getLogger(__name__)

SAVE_EVERY_S = 300.0
_NAME = re.compile(r"epoch-(\d+)-step-(\d+)\.safetensors")
_KEPT = 2


class StepFiles:
    """The checkpoints of one training, in a folder of their own.

    Args:
        folder: Created when the first is written; only the user may enter it.
        identity: What the training is, JSON-serializable; files of another training are not used.
        check: Called before a file is written; raises if its disk is not there.
        report: Receives a line for each file that cannot be used.
        every_s: Seconds between two checkpoints.
        clock: Monotonic clock, in seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        identity: Mapping[str, object],
        check: Callable[[], None] = lambda: None,
        report: Callable[[str], None] = logger.warning,
        every_s: float = SAVE_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._identity = dict(identity)
        self._check = check
        self._report = report
        self._every_s = every_s
        self._clock = clock
        self._saved_at = clock()

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return self._clock() - self._saved_at >= self._every_s

    def save(self, tensors: Mapping[str, Tensor], *, epoch: int, step: int) -> None:
        """Write a checkpoint atomically, then delete all but this and the one before it.

        Args:
            tensors: The result of `TrainingRun.state`.
            epoch: Finished epochs.
            step: Finished steps of the next one.

        Raises:
            OSError: It cannot be written, as when the disk is full; the earlier ones are kept.
        """
        self._check()
        path = self.folder / f"epoch-{epoch:03d}-step-{step:06d}.safetensors"
        write_tensors(path, tensors, metadata=self._identity, is_private=True)
        self._saved_at = self._clock()
        last = [each for each in self._files() if _position(each) <= _position(path)][:_KEPT]
        for old in set(self._files()) - set(last):
            old.unlink(missing_ok=True)

    def newest(self, *, after: tuple[int, int] = (0, 0)) -> dict[str, Tensor]:
        """The tensors of the newest file that is whole and of this training; empty if there is none.

        A damaged file is reported and set aside.

        Args:
            after: Finished epochs, and finished steps of the next one, that another checkpoint has.

        Raises:
            InfrastructureError: There may be one, but the disk failed.
        """
        fault = None
        for path in self._files():
            if _position(path) <= after:
                break
            try:
                tensors, document = read_tensors(path)
            except DamagedFileError as error:
                self._report(f"{error}; {set_aside(path)}, and the checkpoint before it is used")
            except InfrastructureError as error:
                fault = error
            except CheckpointError as error:
                self._report(f"{error}; the checkpoint before it is used")
            else:
                if document == self._identity:
                    return tensors
        if fault is not None:
            raise fault
        return {}

    def clear(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        """The files, newest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted((path for path in found if _NAME.fullmatch(path.name)), key=_position, reverse=True)


def _position(path: Path) -> tuple[int, int]:
    match = _NAME.fullmatch(path.name)
    assert match is not None, "only such files are listed"
    return int(match[1]), int(match[2])
