"""The interface of data for training and evaluation, independent of its source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from sparsesearch.schedule.image_size import ImageSize

ValPart = Literal["screen", "confirm"]
"""`screen` ranks candidates; `confirm` re-scores the selected ones on images that the selection did not use."""


@dataclass(frozen=True)
class Batch:
    """Images with their annotations.

    Attributes:
        images: float32 `B x in_chans x H x W`, normalised.
        labels: int64 `B`.
        ids: int64 `B`, positions in a fixed pool whose teacher targets can be cached, or None.
        boxes: float32 `B x 4` top, left, bottom, right of the object as fractions of the image, or None if unknown.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor | None = None
    boxes: Tensor | None = None


class Task(Protocol):
    """Training and validation data, without access to the test split.

    All random numbers depend only on the arguments (seed, epoch), never on a global generator.

    Attributes:
        num_classes: Number of classes.
        in_chans: Image channels.
        image_size: Height and width in pixels.
        num_train: Images of one full training epoch.
        num_val: Images of one validation part.
        fingerprint: Hash of the data and its preprocessing.
        curriculum_fraction: Fraction of the epochs of dense training, from the start, that show windows around objects;
            0 if the bounding boxes are unknown.
        orders_differ: Whether the classes have names which torchvision would number in another order.
    """

    num_classes: int
    in_chans: int
    image_size: ImageSize
    num_train: int
    num_val: int
    fingerprint: str
    curriculum_fraction: float
    orders_differ: bool

    def fresh_epoch(self, *, epoch: int, seed: int, batch_size: int, num_images: int | None) -> Iterator[Batch]:
        """Batches of one epoch for training a dense model (augmented, never cached)."""

    def pool_epoch(self, *, epoch: int, seed: int, batch_size: int, num_images: int | None) -> Iterator[Batch]:
        """Batches of one epoch for distillation; with `ids` if the images are a fixed pool."""

    def pool(self, *, batch_size: int) -> Iterator[Batch] | None:
        """The whole fixed pool in order of `ids`, or None if there is none."""

    def val(self, part: ValPart, *, batch_size: int) -> Iterator[Batch]:
        """A validation part, always the same batches."""
