"""Image folders and named data sets, with timm's transforms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from sparsesearch.data.content import task_fingerprint
from sparsesearch.data.loading import Preprocessing, Steps, Transform, batches_of, transformed
from sparsesearch.data.samples import Samples, Splits
from sparsesearch.data.task import Batch, Epoch, Task, ValPart
from sparsesearch.seeds import derive_seed
from sparsesearch.study.spec import DataSpec

__all__ = ["ImagesTask", "ImagesTest", "Preprocessing", "Splits"]


class _Chosen(Dataset[tuple[Tensor, int]]):
    """Some samples of a data set in a given order, each transformed with its own seed."""

    def __init__(self, base: Samples, order: Sequence[int], transform: Transform, *, seed: int) -> None:
        self._base = base
        self._order = order
        self._transform = transform
        self._seed = seed

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        index = self._order[position]
        image, label = self._base[index]
        return transformed(image, self._transform, seed=derive_seed(self._seed, index)), label


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
        self.in_chans = preprocessing.in_chans
        self.image_size = preprocessing.image_size
        self.num_train = len(splits.train[1])
        half = len(splits.val[1]) // 2
        self.num_val = min(spec.num_val_images or half, half)
        self.fingerprint = task_fingerprint(splits.fingerprint, preprocessing)
        self.orders_differ = splits.account.orders_differ
        self._train = splits.train
        self._val = splits.val
        self._workers = spec.workers
        self._preprocessing = preprocessing

    def fresh_epoch(self, epoch: Epoch) -> Iterator[Batch]:
        """Augmented training images (random resized crop, RandAugment, colour jitter); see `Task.fresh_epoch`."""
        base, indices = self._train
        rng = np.random.default_rng(derive_seed(epoch.seed, "images", epoch.number))
        order = rng.permutation(np.asarray(indices))[: epoch.num_images or None].tolist()
        transform = self._preprocessing.transform(is_training=True)
        part = _Chosen(base, order, transform, seed=derive_seed(epoch.seed, "augment", epoch.number))
        yield from batches_of(part, Steps.of_epoch(epoch, num_images=len(part)), workers=self._workers)

    def pool_epoch(self, epoch: Epoch) -> Iterator[Batch]:
        """Same as `fresh_epoch`: augmented images are not a fixed pool, so teacher targets are computed online."""
        yield from self.fresh_epoch(epoch)

    def pool(self, *, batch_size: int) -> None:
        """There is no fixed pool."""

    def val(self, part: ValPart, *, batch_size: int) -> Iterator[Batch]:
        """Every other validation image: two disjoint parts with the same classes."""
        base, indices = self._val
        chosen = list(indices)[0 if part == "screen" else 1 :: 2][: self.num_val]
        yield from self._evaluation(base, chosen, batch_size=batch_size)

    def _evaluation(self, base: Samples, order: Sequence[int], *, batch_size: int) -> Iterator[Batch]:
        """Batches of the given samples, resized and centre-cropped."""
        part = _Chosen(base, order, self._preprocessing.transform(is_training=False), seed=0)
        yield from batches_of(part, batch_size, workers=self._workers)


class ImagesTest(ImagesTask):
    """The test part of an image data set; only retraining and final reports may use it."""

    def __init__(self, splits: Splits, preprocessing: Preprocessing, spec: DataSpec) -> None:
        super().__init__(splits, preprocessing, spec)
        self._test = splits.test
        self.class_names = splits.class_names

    def test(self, *, batch_size: int) -> Iterator[Batch]:
        """All test images."""
        base, indices = self._test
        yield from self._evaluation(base, indices, batch_size=batch_size)


_: type[Task] = ImagesTask
