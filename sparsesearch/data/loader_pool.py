"""Processes that decode images into memory that they share with this one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import cycle
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

_Chunk = TypeVar("_Chunk", bound=Sized)
Decoded = tuple[Tensor, list[int]]
"""Images, uint8 `B x C x H x W` in the memory format of images (channels last), and their labels."""
_Filled = tuple[int, list[int]]  # a slot, and the labels of the images in it


class LoaderPool(Generic[_Chunk]):
    """Loader processes. They write into shared memory that is made once: new memory for each chunk would cost time.

    Args:
        fill_: Writes the images of a chunk into a tensor, and returns their labels.
        chunk_shape: Most images of a chunk, height, width and channels.
        workers: Their number.
        ahead: Chunks that each decodes before they are asked for.
    """

    def __init__(
        self,
        fill_: Callable[[Tensor, _Chunk], list[int]],
        chunk_shape: Sequence[int],
        *,
        workers: int,
        ahead: int,
    ) -> None:
        self.workers = workers
        self.ahead = ahead
        size, *image_shape = chunk_shape
        # One more than are under way: the one that is read while its successor is written.
        self._slots = [empty_images(size, image_shape, is_shared=True) for _ in range(workers * ahead + 1)]
        self._queue: _Queue[_Chunk] = _Queue(len(self._slots))
        self._loader: DataLoader[_Filled] = DataLoader(
            _Slots(fill_, self._slots),
            batch_size=None,
            sampler=self._queue,
            num_workers=workers,
            prefetch_factor=ahead,
            persistent_workers=True,
            collate_fn=_as_it_is,
            worker_init_fn=_obey_the_parent_alone,
            generator=torch.Generator().manual_seed(0),
        )

    def run(self, chunks: Iterable[_Chunk]) -> Iterator[Decoded]:
        """Decode chunks in order; what is left of an earlier run is dropped.

        The images are overwritten when the next ones are asked for.
        """
        self._queue.chunks = chunks
        for slot, labels in self._loader:
            yield self._slots[slot][: len(labels)], labels


class _Slots(Dataset[_Filled], Generic[_Chunk]):
    def __init__(self, fill_: Callable[[Tensor, _Chunk], list[int]], slots: Sequence[Tensor]) -> None:
        self._fill_ = fill_
        self._slots = slots

    def __getitem__(self, asked: tuple[int, _Chunk]) -> _Filled:
        slot, chunk = asked
        return slot, self._fill_(self._slots[slot][: len(chunk)], chunk)


class _Queue(Sampler[tuple[int, _Chunk]]):
    """Assigns slots in turn. A chunk is asked for when the one that was in its slot has been read."""

    def __init__(self, num_slots: int) -> None:
        self.chunks: Iterable[_Chunk] = ()
        self._num_slots = num_slots

    def __iter__(self) -> Iterator[tuple[int, _Chunk]]:
        return zip(cycle(range(self._num_slots)), self.chunks, strict=False)


def empty_images(count: int, image_shape: Sequence[int], *, is_shared: bool = False) -> Tensor:
    """Memory for images as decoders write them, channels last; pinned where this process uses a GPU.

    Args:
        count: Number of images.
        image_shape: Height, width and channels of an image.
        is_shared: Whether other processes write into it; it is then not pinned.

    Returns:
        uint8 `B x C x H x W`.
    """
    is_pinned: bool = not is_shared and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    images_BHWC = torch.empty((count, *image_shape), dtype=torch.uint8, pin_memory=is_pinned)
    if is_shared:
        images_BHWC.share_memory_()  # type: ignore[no-untyped-call]
    return images_BHWC.permute(0, 3, 1, 2)


def _as_it_is(filled: Any) -> Any:
    return filled


def _obey_the_parent_alone(_: int) -> None:
    """Let a loader process end by its parent's will only.

    Ctrl-C, and the SIGTERM at the end of a job, go to all processes; the parent then still finishes its step.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_wait_for_end, args=(os.getppid(),), daemon=True).start()


def _wait_for_end(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
