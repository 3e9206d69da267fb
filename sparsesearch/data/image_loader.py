"""Decode, transform and collate images, in this process or in others."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from sparsesearch.data.loader_pool import Decoded, LoaderPool, empty_images
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

    def __len__(self) -> int:
        return len(self.indices)


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
        self._idle: LoaderPool[_Chunk] | None = None

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
                images_BCHW = empty_images(len(indices), self._image_shape)
                labels = _copied_(images_BCHW, decoded) if decoded else self._decoding.fill_(images_BCHW, next(chunks))
                batch = Batch(images=images_BCHW, labels=torch.tensor(labels), normalisation=self._normalisation)
                yield batch if steps.are_whole else steps.placed(batch)
        except DataError as error:
            # The error of a loader process contains its traceback as text, with the message last.
            message = str(error).strip().splitlines()[-1]
            raise DataError(message.partition(f"{DataError.__name__}: ")[2] or message) from error

    def _decoded_elsewhere(
        self, chunks: Iterable[_Chunk], *, workers: int, ahead: int, is_training: bool
    ) -> Iterator[Decoded]:
        pool, self._idle = self._idle, None
        keep = is_training or pool is not None
        if pool is None or pool.workers != workers or pool.ahead < ahead:
            pool = LoaderPool(self._decoding.fill_, (_CHUNK, *self._image_shape), workers=workers, ahead=ahead)
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


def _copied_(images_BCHW: Tensor, decoded: Iterator[Decoded]) -> list[int]:
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
