"""The task on shards, which have no access by index.

Training reads the shards in a different order in each epoch, with a shuffle buffer; the validation shards are split by
the positions of their samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from sparsesearch.data.content import task_fingerprint
from sparsesearch.data.loading import Preprocessing, batches_of
from sparsesearch.data.shard_order import SamplesAtPositions, ShuffledShards
from sparsesearch.data.shards import Stream
from sparsesearch.data.task import Batch, Epoch, Task, ValPart
from sparsesearch.seeds import derive_seed
from sparsesearch.study.spec import DataSpec


class StreamTask:
    """Training and validation parts of WebDataset shards.

    An epoch depends on (seed, epoch) and on the number of loader processes.

    Args:
        stream: The shards; the test part is not kept.
        preprocessing: Size and normalisation.
        spec: Loader settings.
    """

    curriculum_fraction = 0.0
    orders_differ = False

    def __init__(self, stream: Stream, preprocessing: Preprocessing, spec: DataSpec) -> None:
        self.num_classes = stream.num_classes
        self.in_chans = preprocessing.in_chans
        self.image_size = preprocessing.image_size
        self.num_train = stream.num_train
        half = len(stream.search[1]) // 2
        self.num_val = min(spec.num_val_images or half, half)
        self.fingerprint = task_fingerprint(stream.fingerprint, preprocessing)
        self._stream = replace(stream, test=((), ()))
        self._workers = min(spec.workers, len(stream.train))
        self._preprocessing = preprocessing

    def fresh_epoch(self, epoch: Epoch) -> Iterator[Batch]:
        """Augmented training images from shuffled shards; see `Task.fresh_epoch`."""
        images = min(epoch.num_images or self.num_train, self.num_train)
        size = min(epoch.batch_size, images)
        part = ShuffledShards(self._stream, self._preprocessing, seed=derive_seed(epoch.seed, "stream", epoch.number))
        own = epoch.share.of(size)
        for batch in islice(batches_of(part, size, workers=self._workers), epoch.first_step, images // size):
            yield Batch(images=batch.images[own], labels=batch.labels[own], first=own.start, num_in_step=size)

    def pool_epoch(self, epoch: Epoch) -> Iterator[Batch]:
        """Same as `fresh_epoch`: augmented images are not a fixed pool, so teacher targets are computed online."""
        yield from self.fresh_epoch(epoch)

    def pool(self, *, batch_size: int) -> None:
        """There is no fixed pool."""

    def val(self, part: ValPart, *, batch_size: int) -> Iterator[Batch]:
        """Every other validation sample of the search, two disjoint parts with the same classes."""
        shards, positions = self._stream.search
        chosen = positions[0 if part == "screen" else 1 :: 2][: self.num_val]
        yield from self._evaluation(shards, chosen, batch_size=batch_size)

    def _evaluation(self, shards: Sequence[Path], positions: Sequence[int], *, batch_size: int) -> Iterator[Batch]:
        transform = self._preprocessing.transform(is_training=False)
        part = SamplesAtPositions(shards, positions, transform, mode=self._preprocessing.mode)
        yield from batches_of(part, batch_size, workers=min(self._workers, 1))


class StreamTest(StreamTask):
    """The test part of WebDataset shards; only retraining and final reports may use it."""

    class_names: tuple[str, ...] = ()  # shards have numbers only

    def __init__(self, stream: Stream, preprocessing: Preprocessing, spec: DataSpec) -> None:
        super().__init__(stream, preprocessing, spec)
        self._test = stream.test

    def test(self, *, batch_size: int) -> Iterator[Batch]:
        """All test images."""
        shards, positions = self._test
        yield from self._evaluation(shards, positions, batch_size=batch_size)


_: type[Task] = StreamTask
