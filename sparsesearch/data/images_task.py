"""Image folders, named data sets and shards, with timm's transforms."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Self

import numpy as np

from sparsesearch.data.content import task_fingerprint
from sparsesearch.data.epoch_order import epoch_order
from sparsesearch.data.image_loader import Augmentation, ImageLoader
from sparsesearch.data.loading import Preprocessing
from sparsesearch.data.samples import Joined, Splits
from sparsesearch.data.steps import Steps
from sparsesearch.data.task import Batch, Epoch, Task, ValPart
from sparsesearch.data.validation_size import num_val_images
from sparsesearch.seeds import derive_seed
from sparsesearch.study.spec import DataSpec

__all__ = ["ImagesTask", "ImagesTest", "Preprocessing", "Splits"]


class ImagesTask:
    """Training and validation parts of an image data set.

    Args:
        splits: The data; the test part is not kept.
        preprocessing: Size and normalisation.
        spec: Loader settings.
    """

    curriculum_fraction = 0.0

    def __init__(self, splits: Splits, preprocessing: Preprocessing, spec: DataSpec) -> None:
        self.num_classes = splits.num_classes
        self.class_names = splits.class_names
        self.in_chans = preprocessing.in_chans
        self.image_size = preprocessing.image_size
        self.num_train = len(splits.train[1])
        self.num_val = num_val_images(spec, available=len(splits.val[1]) // 2)
        self.num_ranking = len(splits.val[1]) // 2
        self.fingerprint = task_fingerprint(splits.fingerprint, preprocessing)
        self.state = splits.state
        self.orders_differ = splits.account.orders_differ
        self.val_is_of_train = splits.account.val_is_of_train
        parts = {"train": splits.train[0], "val": splits.val[0]}
        self._train, self._val = (np.asarray(indices, dtype=np.int64) for _, indices in (splits.train, splits.val))
        self._runs = splits.train_runs
        self._loader = ImageLoader(parts, preprocessing, workers=spec.workers)

    def fresh_epoch(self, epoch: Epoch) -> Iterator[Batch]:
        """Augmented training images (random resized crop, RandAugment, colour jitter); see `Task.fresh_epoch`."""
        order = epoch_order(self._train, runs=self._runs, seed=derive_seed(epoch.seed, "images", epoch.number))
        augmentation = Augmentation(derive_seed(epoch.seed, "augment", epoch.number), epoch.rand_augment)
        yield from self._loader.read("train", Steps.of_epoch(epoch, order), augmentation=augmentation)

    def pool_epoch(self, epoch: Epoch) -> Iterator[Batch]:
        """Same as `fresh_epoch`: augmented images are not a fixed pool, so teacher targets are computed online."""
        yield from self.fresh_epoch(epoch)

    def pool(self, *, batch_size: int) -> None:
        """There is no fixed pool."""

    def val(self, part: ValPart, *, batch_size: int) -> Iterator[Batch]:
        """Every other validation image: two disjoint halves with the same classes, one of which ranks."""
        half = self._val[1 if part == "confirm" else 0 :: 2]
        first = self.num_val if part == "more" else 0
        chosen = half[first : min(first + self.num_val, self.num_ranking)]
        if self._runs:
            chosen = np.sort(chosen)  # as they are in the shards
        yield from self._loader.read("val", Steps(chosen, batch_size))


class ImagesTest(ImagesTask):
    """The test part of an image data set; only retraining and final reports may use it."""

    def __init__(self, splits: Splits, preprocessing: Preprocessing, spec: DataSpec) -> None:
        super().__init__(splits, preprocessing, spec)
        samples, indices = splits.test
        self._test = np.asarray(indices, dtype=np.int64)
        self._loader.parts["test"] = samples

    def with_held_out(self) -> Self:
        """The data with the images that a search holds out of the training images among them; itself if it has none."""
        if not self.val_is_of_train:
            return self
        parts = self._loader.parts
        joined = Joined((parts["train"], self._train.tolist()), (parts["val"], self._val.tolist()))
        whole = copy(self)
        whole._loader = self._loader.with_parts({**parts, "train": joined})
        whole._train, whole.num_train, whole.val_is_of_train = np.arange(len(joined)), len(joined), False
        return whole

    def test(self, *, batch_size: int) -> Iterator[Batch]:
        """All test images, resized and centre-cropped."""
        yield from self._loader.read("test", Steps(self._test, batch_size))


_: type[Task] = ImagesTask
