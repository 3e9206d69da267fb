"""The interface of data for training and evaluation, independent of its source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from torch import Tensor

from sparsesearch.data.normalisation import Normalisation
from sparsesearch.schedule.image_size import ImageSize
from sparsesearch.study.spec import RAND_AUGMENT

ValPart = Literal["screen", "more", "confirm"]
"""`screen` ranks candidates, and `more` the best of them again, on what is left of the images that may rank; `confirm`
judges the selected ones on images that the selection did not use."""


@dataclass(frozen=True)
class Share:
    """What one of several processes that train together reads of each step: consecutive images.

    Attributes:
        rank: Number of the process, from 0.
        world: Number of processes.
    """

    rank: int = 0
    world: int = 1

    def of(self, num_images: int) -> slice:
        """The positions of this process's images in a step of `num_images`; shares differ by one image at most."""
        return slice(self.rank * num_images // self.world, (self.rank + 1) * num_images // self.world)


ALONE = Share()


@dataclass(frozen=True)
class Epoch:
    """What a process reads in one epoch of a training.

    Attributes:
        number: Number of the epoch.
        seed: Seed of the training.
        batch_size: Images of a step, in all processes.
        num_images: Images of the epoch; None for all.
        first_step: The first step that is read; those before it are done.
        share: What this process reads of each step.
        rand_augment: timm's RandAugment of image files; None for none.
    """

    number: int
    seed: int
    batch_size: int
    num_images: int | None = None
    first_step: int = 0
    share: Share = ALONE
    rand_augment: str | None = RAND_AUGMENT


@dataclass(frozen=True)
class Batch:
    """Images with their annotations: a step of training, or a share of it.

    Attributes:
        images: float32 `B x in_chans x H x W`, normalised; or uint8, to be normalised on the device.
        labels: int64 `B`.
        ids: int64 `B`, positions in a fixed pool whose teacher targets can be cached, or None.
        boxes: float32 `B x 4` top, left, bottom, right of the object as fractions of the image, or None if unknown.
        first: Position of the first image in its training step.
        num_in_step: Images of that step in all processes; None if these are all.
        normalisation: What uint8 images are to be normalised with; None if they are normalised.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor | None = None
    boxes: Tensor | None = None
    first: int = 0
    num_in_step: int | None = None
    normalisation: Normalisation | None = None

    def normalised(self) -> Batch:
        """The same with normalised images, on their device."""
        if self.normalisation is None:
            return self
        return replace(self, images=self.normalisation(self.images), normalisation=None)

    @property
    def fraction(self) -> float:
        """Fraction of the images of the training step that these are."""
        return 1.0 if self.num_in_step is None else len(self.labels) / self.num_in_step

    def micro_batches(self, size: int) -> Iterator[Batch]:
        """Consecutive parts of at most `size` images."""
        for start in range(0, len(self.labels), size):
            part = slice(start, start + size)
            yield replace(
                self,
                images=self.images[part],
                labels=self.labels[part],
                ids=None if self.ids is None else self.ids[part],
                boxes=None if self.boxes is None else self.boxes[part],
                first=self.first + start,
                num_in_step=len(self.labels) if self.num_in_step is None else self.num_in_step,
            )


class Task(Protocol):
    """Training and validation data, without access to the test split.

    All random numbers depend only on the arguments (seed, epoch), never on a global generator.

    Attributes:
        num_classes: Number of classes.
        class_names: Names of the classes in the order of their labels; empty if unknown.
        in_chans: Image channels.
        image_size: Height and width in pixels.
        num_train: Images of one full training epoch.
        num_val: Images of one validation part.
        num_ranking: Images that may rank candidates: `screen`, and `more`, which is never larger.
        fingerprint: Hash of the data and its preprocessing.
        state: What the files of the data were when they were looked at, for other processes that open them; empty if
            there is nothing to tell.
        curriculum_fraction: Fraction of the epochs of dense training, from the start, that show windows around objects;
            0 if the bounding boxes are unknown.
        orders_differ: Whether the classes have names which torchvision would number in another order.
        val_is_of_train: Whether validation images are held out of a training split that weights may have seen.
    """

    num_classes: int
    class_names: tuple[str, ...]
    in_chans: int
    image_size: ImageSize
    num_train: int
    num_val: int
    num_ranking: int
    fingerprint: str
    state: str
    curriculum_fraction: float
    orders_differ: bool
    val_is_of_train: bool

    def fresh_epoch(self, epoch: Epoch) -> Iterator[Batch]:
        """Batches of one epoch for training a dense model (augmented, never cached)."""

    def pool_epoch(self, epoch: Epoch) -> Iterator[Batch]:
        """Batches of one epoch for distillation; with `ids` if the images are a fixed pool."""

    def pool(self, *, batch_size: int) -> Iterator[Batch] | None:
        """The whole fixed pool in order of `ids`, or None if there is none."""

    def val(self, part: ValPart, *, batch_size: int) -> Iterator[Batch]:
        """A validation part, always the same batches."""
