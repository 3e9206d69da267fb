"""What training and evaluation need of data, whatever its source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

ValPart = Literal["screen", "confirm"]
"""`screen` ranks candidates; `confirm` re-scores those that were chosen by it, on images the choice never saw."""


@dataclass(frozen=True)
class Batch:
    """Images with what is known of them.

    Attributes:
        images: float32 `B x in_chans x H x W`, normalised.
        labels: int64 `B`.
        ids: int64 `B`, positions in a fixed pool for which teacher targets can be cached, or None.
        boxes: float32 `B x 4` top, left, bottom, right of the object as shares of the image, or None if unknown.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor | None = None
    boxes: Tensor | None = None


class Task(Protocol):
    """Training and validation data. Has no handle on the test split.

    Everything drawn depends only on the arguments (seed, epoch), never on a global generator.

    Attributes:
        num_classes: Number of classes.
        in_chans: Image channels.
        image_size: Height and width in pixels.
        num_train: Images of one full training epoch.
        num_val: Images of one validation part.
        fingerprint: Hash of the data and how it is prepared.
        curriculum_share: Share of the epochs of dense training that begin with windows around objects; 0 where nothing
            is known of where they are.
    """

    num_classes: int
    in_chans: int
    image_size: int
    num_train: int
    num_val: int
    fingerprint: str
    curriculum_share: float

    def fresh_epoch(self, *, epoch: int, seed: int, batch_size: int, num_images: int | None) -> Iterator[Batch]:
        """Training batches of one epoch for training a dense model (augmented, nothing cached)."""

    def pool_epoch(self, *, epoch: int, seed: int, batch_size: int, num_images: int | None) -> Iterator[Batch]:
        """Training batches of one epoch for distillation; carries `ids` where the images are a fixed pool."""

    def pool(self, *, batch_size: int) -> Iterator[Batch] | None:
        """The whole fixed pool in order of `ids`, or None where there is none."""

    def val(self, part: ValPart, *, batch_size: int) -> Iterator[Batch]:
        """A validation part, always the same batches."""
