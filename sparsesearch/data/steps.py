"""What a process reads of each step of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sparsesearch.data.task import ALONE, Batch, Epoch, Share


class Steps:
    """The images that a process reads of each step.

    Args:
        order: Indices of all images, in order.
        batch_size: Images of a step, in all processes.
        first: The first step that is read.
        share: What this process reads of each step.
        drop_last: Whether an incomplete last step is left out, unless it is the only one.
    """

    def __init__(
        self,
        order: NDArray[np.int64],
        batch_size: int,
        *,
        first: int = 0,
        share: Share = ALONE,
        drop_last: bool = False,
    ) -> None:
        self._order = order
        size = min(batch_size, len(order)) if drop_last else batch_size
        stop = len(order) - size + 1 if drop_last else len(order)
        self._starts = range(first * size, stop, size)
        self._step_size = size
        self._share = share

    @classmethod
    def of_epoch(cls, epoch: Epoch, order: NDArray[np.int64]) -> Steps:
        """The steps of an epoch of training on at most `epoch.num_images` images."""
        order = order[: epoch.num_images or None]
        return cls(order, epoch.batch_size, first=epoch.first_step, share=epoch.share, drop_last=True)

    @property
    def size(self) -> int:
        """Images that this process reads of a step."""
        return len(range(self._step_size)[self._share.of(self._step_size)])

    @property
    def are_whole(self) -> bool:
        """Whether this process reads all of each step."""
        return self._share == ALONE

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        for start in self._starts:
            step = self._order[start : start + self._step_size]
            yield step[self._share.of(len(step))]

    def placed(self, batch: Batch) -> Batch:
        """A batch that knows its place in its step."""
        return replace(batch, first=self._share.of(self._step_size).start, num_in_step=self._step_size)
