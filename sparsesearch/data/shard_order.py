"""The order in which the samples of shards are read."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from sparsesearch.data.loading import Preprocessing, Transform, transformed
from sparsesearch.data.shard_reader import Entry, read_entries
from sparsesearch.data.shards import Stream, decode_entry
from sparsesearch.seeds import derive_seed

_BUFFER = 2048


class ShuffledShards(IterableDataset[tuple[Tensor, int]]):
    """Training samples of one epoch; the worker processes read disjoint shards."""

    def __init__(self, stream: Stream, preprocessing: Preprocessing, *, seed: int) -> None:
        self._stream = stream
        self._mode = preprocessing.mode
        self._transform = preprocessing.transform(is_training=True)
        self._seed = seed

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        shards = list(self._stream.train)
        random.Random(self._seed).shuffle(shards)
        worker = get_worker_info()
        number = 0
        if worker is not None:
            number, shards = worker.id, shards[worker.id :: worker.num_workers]
        for position, entry in enumerate(_mixed(self._used(shards), random.Random(derive_seed(self._seed, number)))):
            seed = derive_seed(self._seed, number, position)
            yield transformed(decode_entry(entry, mode=self._mode), self._transform, seed=seed), entry.label

    def _used(self, shards: Sequence[Path]) -> Iterator[Entry]:
        for shard in shards:
            for position, entry in enumerate(read_entries([shard])):
                if (shard, position) not in self._stream.skipped:
                    yield entry


def _mixed(entries: Iterator[Entry], rng: random.Random) -> Iterator[Entry]:
    """Shuffle entries with a buffer of fixed size."""
    buffer = list(islice(entries, _BUFFER))
    for entry in entries:
        index = rng.randrange(len(buffer))
        yield buffer[index]
        buffer[index] = entry
    rng.shuffle(buffer)
    yield from buffer


class SamplesAtPositions(IterableDataset[tuple[Tensor, int]]):
    """The samples at given positions of shards, in shard order."""

    def __init__(self, shards: Sequence[Path], positions: Sequence[int], transform: Transform, *, mode: str) -> None:
        self._shards = shards
        self._positions = frozenset(positions)
        self._transform = transform
        self._mode = mode

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        stop = max(self._positions, default=-1) + 1
        for position, entry in enumerate(islice(read_entries(self._shards), stop)):
            if position in self._positions:
                yield transformed(decode_entry(entry, mode=self._mode), self._transform, seed=0), entry.label
