"""Checkpoints of a training under way, written every few minutes; the newest whole one is used."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from sparsesearch.errors import CheckpointError
from sparsesearch.training.checkpoints import read_tensors, write_tensors

SAVE_EVERY_S = 300.0
_NAME = re.compile(r"epoch-(\d+)-step-(\d+)\.safetensors")
_KEPT = 2


class StepFiles:
    """The checkpoints of one training, in a folder of their own.

    Args:
        folder: Created when the first is written.
        identity: What the training is, JSON-serializable; files of another training are not used.
        every_s: Seconds between two checkpoints.
        clock: Monotonic clock, in seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        identity: Mapping[str, object],
        every_s: float = SAVE_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._identity = dict(identity)
        self._every_s = every_s
        self._clock = clock
        self._saved_at = clock()

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return self._clock() - self._saved_at >= self._every_s

    def save(self, tensors: Mapping[str, Tensor], *, epoch: int, step: int) -> None:
        """Write a checkpoint atomically, then delete all but the last two.

        Args:
            tensors: The result of `TrainingRun.state`.
            epoch: Finished epochs.
            step: Finished steps of the next one.
        """
        path = self.folder / f"epoch-{epoch:03d}-step-{step:06d}.safetensors"
        write_tensors(path, tensors, metadata=self._identity)
        self._saved_at = self._clock()
        for old in self._files()[_KEPT:]:
            old.unlink(missing_ok=True)
        for partial in self.folder.glob("*.part"):
            partial.unlink(missing_ok=True)

    def newest(self, *, after: tuple[int, int] = (0, 0)) -> dict[str, Tensor]:
        """The tensors of the newest file that is whole and of this training; empty if there is none.

        Args:
            after: Finished epochs, and finished steps of the next one, that another checkpoint has.
        """
        for path in self._files():
            if _position(path) <= after:
                return {}
            try:
                tensors, document = read_tensors(path)
            except CheckpointError:
                continue
            if document == self._identity:
                return tensors
        return {}

    def clear(self) -> None:
        """Delete all files of the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        """The files, newest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted((path for path in found if _NAME.fullmatch(path.name)), key=_position, reverse=True)


def _position(path: Path) -> tuple[int, int]:
    match = _NAME.fullmatch(path.name)
    assert match is not None, "only such files are listed"
    return int(match[1]), int(match[2])
