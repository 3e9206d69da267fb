"""From image files to batches: preprocessing, and timm's transforms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.transforms_factory import create_transform
from torch import Tensor

from sparsesearch.data.normalisation import Normalisation
from sparsesearch.schedule.image_size import ImageSize, sides

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

    @property
    def normalisation(self) -> Normalisation:
        """What transformed images go through before the model."""
        return Normalisation(self.mean[: self.in_chans], self.std[: self.in_chans])

    def transform(self, *, is_training: bool, rand_augment: str | None = None) -> Transform:
        """A transform of an image into uint8 `in_chans x H x W`, which is not normalised.

        Args:
            is_training: Random resized crop, RandAugment and colour jitter, from Python's, NumPy's and torch's global
                generators; otherwise resize and centre crop.
            rand_augment: timm's RandAugment for training on colour images; None for none.
        """
        made: Transform = create_transform(
            (self.in_chans, *sides(self.image_size)),
            is_training=is_training,
            auto_augment=rand_augment if is_training and self.in_chans == 3 else None,
            interpolation=self.interpolation,
            mean=self.mean[: self.in_chans],
            crop_pct=self.crop_pct,
            normalize=False,
        )
        return made
