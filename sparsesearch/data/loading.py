"""From image files to batches: preprocessing, timm's transforms, and the loader."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from sparsesearch.data.task import ALONE, Batch, Epoch, Share
from sparsesearch.errors import DataError
from sparsesearch.schedule.image_size import ImageSize, sides

# mmax9: with its random magnitude above 9, timm may posterize to 0 bits, which recent versions of Pillow reject.
_RAND_AUGMENT = "rand-m9-mmax9-mstd0.5-inc1"

Transform = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class Preprocessing:
    """Input preprocessing that the backbone's weights were trained with.

    Attributes:
        image_size: Height and width in pixels.
        in_chans: 1 or 3 channels.
        mean: Channel means.
        std: Channel standard deviations.
        interpolation: Name of the resize filter.
        crop_pct: Fraction of the resized image that is cropped for evaluation.
    """

    image_size: ImageSize
    in_chans: int = 3
    mean: tuple[float, ...] = IMAGENET_DEFAULT_MEAN
    std: tuple[float, ...] = IMAGENET_DEFAULT_STD
    interpolation: str = "bicubic"
    crop_pct: float = 0.9

    @property
    def mode(self) -> str:
        """Pillow image mode."""
        return "RGB" if self.in_chans == 3 else "L"

    def transform(self, *, is_training: bool) -> Transform:
        """Random resized crop, RandAugment and colour jitter for training; resize and centre crop for evaluation."""
        size = (self.in_chans, *sides(self.image_size))
        made: Transform = create_transform(
            size,
            is_training=is_training,
            auto_augment=_RAND_AUGMENT if is_training and self.in_chans == 3 else None,
            interpolation=self.interpolation,
            mean=self.mean[: self.in_chans],
            std=self.std[: self.in_chans],
            crop_pct=self.crop_pct,
        )
        return made


def transformed(image: Image.Image, transform: Transform, *, seed: int) -> Tensor:
    """Apply a transform with a seed; the state of all global generators is preserved."""
    with torch.random.fork_rng(devices=[]):
        state, np_state = random.getstate(), np.random.get_state()
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            return transform(image)
        finally:
            random.setstate(state)
            np.random.set_state(np_state)


class Steps(Sampler[list[int]]):
    """The positions that a process reads of each step; they are samples in a given order.

    Args:
        num_images: Number of samples in that order.
        batch_size: Images of a step, in all processes.
        first: The first step that is read.
        share: What this process reads of each step.
        drop_last: Whether an incomplete last step is left out, unless it is the only one.
    """

    def __init__(
        self, num_images: int, batch_size: int, *, first: int = 0, share: Share = ALONE, drop_last: bool = False
    ) -> None:
        size = min(batch_size, num_images) if drop_last else batch_size
        stop = num_images - size + 1 if drop_last else num_images
        self._starts = range(first * size, stop, size)
        self._num_images = num_images
        self.share = share
        self.size = size

    @classmethod
    def of_epoch(cls, epoch: Epoch, *, num_images: int) -> Steps:
        """The steps of an epoch of training."""
        return cls(num_images, epoch.batch_size, first=epoch.first_step, share=epoch.share, drop_last=True)

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[list[int]]:
        for start in self._starts:
            step = range(start, min(start + self.size, self._num_images))
            yield list(step[self.share.of(len(step))])


def batches_of(part: Dataset[tuple[Tensor, int]], steps: Steps | int, *, workers: int) -> Iterator[Batch]:
    """Batches of transformed images, in the order of `part`.

    Args:
        part: The samples.
        steps: What to read of them; an integer reads all, in batches of this size.
        workers: Number of loader processes.

    Raises:
        DataError: An image cannot be read, here or in a worker process.
    """
    chosen: dict[str, Any] = {"batch_size": steps} if isinstance(steps, int) else {"batch_sampler": steps}
    loader = DataLoader(
        part,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        collate_fn=default_collate,
        generator=torch.Generator().manual_seed(0),
        **chosen,
    )
    try:
        for images, labels in loader:
            if isinstance(steps, int) or steps.share == ALONE:
                yield Batch(images=images, labels=labels)
            else:
                first = steps.share.of(steps.size).start
                yield Batch(images=images, labels=labels, first=first, num_in_step=steps.size)
    except DataError as error:
        # The error of a worker process contains its traceback as text, with the message last.
        message = str(error).strip().splitlines()[-1]
        raise DataError(message.partition(f"{DataError.__name__}: ")[2] or message) from error
