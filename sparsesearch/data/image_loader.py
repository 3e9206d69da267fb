"""Decode, transform and collate images, in this process or in others."""

from __future__ import annotations

import math
import os
import random
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from sparsesearch.data.loader_workers import num_loader_workers, shared_memory_slots
from sparsesearch.data.loading import Preprocessing, Transform
from sparsesearch.data.samples import Samples
from sparsesearch.data.steps import Steps
from sparsesearch.data.task import Batch
from sparsesearch.errors import DataError
from sparsesearch.schedule.image_size import sides
from sparsesearch.seeds import derive_seed

_CHUNK = 16
"""Images that a loader process hands over at once: of small batches all processes have work, of large ones little is in
memory twice."""
_STEPS_AHEAD = 2


@dataclass(frozen=True)
class Augmentation:
    """How training images are augmented.

    Attributes:
        seed: An image's random numbers depend on this and on its index.
        rand_augment: timm's RandAugment; None for none.
    """

    seed: int
    rand_augment: str | None


@dataclass(frozen=True)
class _Chunk:
    """Images to decode.

    Attributes:
        part: The samples they are from.
        indices: Their indices there.
        augmentation: None for the transform of an evaluation.
    """

    part: str
    indices: NDArray[np.int64]
    augmentation: Augmentation | None


_Decoded = tuple[Tensor, list[int]]
"""Images, uint8 `B x C x H x W` in the memory format of images (channels last), and their labels."""


class ImageLoader:
    """Reads batches of the parts of a data set. An image depends on its index and a seed, not on who decodes it.

    Args:
        parts: The samples, by name.
        preprocessing: Size and normalisation.
        workers: Number of loader processes, None for the default. Those of a training stay for all that follows; an
            evaluation without a training before it ends them.

    Attributes:
        parts: The samples, by name; fixed by the first batch.
    """

    def __init__(self, parts: dict[str, Samples], preprocessing: Preprocessing, *, workers: int | None) -> None:
        self.parts = parts
        self._preprocessing = preprocessing
        self._decoding = _Decoding(parts, preprocessing)
        self._normalisation = preprocessing.normalisation
        self._image_shape = (*sides(preprocessing.image_size), preprocessing.in_chans)
        self._asked = workers
        self._idle: _Pool | None = None

    def with_parts(self, parts: dict[str, Samples]) -> ImageLoader:
        """The same for other samples."""
        return ImageLoader(parts, self._preprocessing, workers=self._asked)

    def read(self, part: str, steps: Steps, *, augmentation: Augmentation | None = None) -> Iterator[Batch]:
        """Batches in the order of the steps.

        Args:
            part: Name of the samples.
            steps: What to read of them.
            augmentation: None for the transform of an evaluation.

        Raises:
            DataError: An image cannot be read, here or in a loader process.
        """
        slots = shared_memory_slots(_CHUNK * math.prod(self._image_shape)) if self._asked != 0 else 0
        workers = min(num_loader_workers(self._asked), slots // 2)
        size = _CHUNK if workers else max(1, steps.size)
        chunks = (
            _Chunk(part, indices[start : start + size], augmentation)
            for indices in steps
            for start in range(0, len(indices), size)
        )
        try:
            decoded = None
            if workers:
                ahead = max(2, min(-(-_STEPS_AHEAD * steps.size // (size * workers)), (slots - 1) // workers))
                is_training = augmentation is not None
                decoded = self._decoded_elsewhere(chunks, workers=workers, ahead=ahead, is_training=is_training)
            for indices in steps:
                images_BCHW = _empty_images(len(indices), self._image_shape)
                labels = _copied_(images_BCHW, decoded) if decoded else self._decoding.fill_(images_BCHW, next(chunks))
                batch = Batch(images=images_BCHW, labels=torch.tensor(labels), normalisation=self._normalisation)
                yield batch if steps.are_whole else steps.placed(batch)
        except DataError as error:
            # The error of a loader process contains its traceback as text, with the message last.
            message = str(error).strip().splitlines()[-1]
            raise DataError(message.partition(f"{DataError.__name__}: ")[2] or message) from error

    def _decoded_elsewhere(
        self, chunks: Iterable[_Chunk], *, workers: int, ahead: int, is_training: bool
    ) -> Iterator[_Decoded]:
        pool, self._idle = self._idle, None
        keep = is_training or pool is not None
        if pool is None or pool.workers != workers or pool.ahead < ahead:
            pool = _Pool(self._decoding, self._image_shape, workers=workers, ahead=ahead)
        try:
            yield from pool.run(chunks)
        finally:
            if keep:
                self._idle = pool


class _Decoding:
    """What a loader process does."""

    def __init__(self, parts: Mapping[str, Samples], preprocessing: Preprocessing) -> None:
        self._parts = parts
        self._preprocessing = preprocessing
        self._plain = preprocessing.transform(is_training=False)
        self._augments: dict[str | None, Transform] = {}

    def fill_(self, images_BCHW: Tensor, chunk: _Chunk) -> list[int]:
        """Write the transformed images, and return their labels."""
        samples, labels = self._parts[chunk.part], []
        augmentation = chunk.augmentation
        transform = self._plain if augmentation is None else self._augment(augmentation.rand_augment)
        is_alone = augmentation is not None and get_worker_info() is None
        with _same_generators_after() if is_alone else nullcontext():
            for image_CHW, index in zip(images_BCHW, chunk.indices.tolist(), strict=True):
                image, label = samples[index]
                if augmentation is not None:
                    _seed_generators(derive_seed(augmentation.seed, index))
                image_CHW.copy_(transform(image))
                labels.append(label)
        return labels

    def _augment(self, rand_augment: str | None) -> Transform:
        if rand_augment not in self._augments:
            made = self._preprocessing.transform(is_training=True, rand_augment=rand_augment)
            self._augments[rand_augment] = made
        return self._augments[rand_augment]


class _Pool:
    """Loader processes. They write into shared memory that is made once: new memory for each chunk would cost time.

    Args:
        decoding: What they do.
        image_shape: Height, width and channels of an image.
        workers: Their number.
        ahead: Chunks that each decodes before they are asked for.
    """

    def __init__(self, decoding: _Decoding, image_shape: Sequence[int], *, workers: int, ahead: int) -> None:
        self.workers = workers
        self.ahead = ahead
        # The one that is read while its successor is written.
        slots = [_empty_images(_CHUNK, image_shape, is_shared=True) for _ in range(workers * ahead + 1)]
        self._slots = slots
        self._queue = _Queue(len(slots))
        self._loader: DataLoader[_Filled] = DataLoader(
            _Slots(decoding, slots),
            batch_size=None,
            sampler=self._queue,
            num_workers=workers,
            prefetch_factor=ahead,
            persistent_workers=True,
            collate_fn=_as_it_is,
            worker_init_fn=_obey_the_parent_alone,
            generator=torch.Generator().manual_seed(0),
        )

    def run(self, chunks: Iterable[_Chunk]) -> Iterator[_Decoded]:
        """Decode chunks in order; what is left of an earlier run is dropped.

        The images are overwritten when the next ones are asked for.
        """
        self._queue.chunks = chunks
        for slot, labels in self._loader:
            yield self._slots[slot][: len(labels)], labels


_Filled = tuple[int, list[int]]
"""A slot, and the labels of the images that were written into it."""


class _Slots(Dataset[_Filled]):
    def __init__(self, decoding: _Decoding, slots: Sequence[Tensor]) -> None:
        self._decoding = decoding
        self._slots = slots

    def __getitem__(self, asked: tuple[int, _Chunk]) -> _Filled:
        slot, chunk = asked
        return slot, self._decoding.fill_(self._slots[slot][: len(chunk.indices)], chunk)


class _Queue(Sampler[tuple[int, _Chunk]]):
    """Assigns slots in turn. A chunk is asked for when the one that was in its slot has been read."""

    def __init__(self, num_slots: int) -> None:
        self.chunks: Iterable[_Chunk] = ()
        self._num_slots = num_slots

    def __iter__(self) -> Iterator[tuple[int, _Chunk]]:
        return zip(cycle(range(self._num_slots)), self.chunks, strict=False)


def _as_it_is(filled: Any) -> Any:
    return filled


def _empty_images(count: int, image_shape: Sequence[int], *, is_shared: bool = False) -> Tensor:
    """Memory for images as decoders write them, channels last; pinned where this process uses a GPU."""
    is_pinned: bool = not is_shared and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    images_BHWC = torch.empty((count, *image_shape), dtype=torch.uint8, pin_memory=is_pinned)
    if is_shared:
        images_BHWC.share_memory_()  # type: ignore[no-untyped-call]
    return images_BHWC.permute(0, 3, 1, 2)


def _copied_(images_BCHW: Tensor, decoded: Iterator[_Decoded]) -> list[int]:
    """Fill it with the next images, and return their labels."""
    labels: list[int] = []
    while len(labels) < len(images_BCHW):
        part, more = next(decoded)
        images_BCHW[len(labels) : len(labels) + len(part)] = part
        labels += more
    return labels


def _seed_generators(seed: int) -> None:
    """Seed the generators that transforms draw from; `torch.manual_seed` would also seed those of GPUs."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


@contextmanager
def _same_generators_after() -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


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
