"""The samples of shards by index."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sparsesearch.data.decoding import decoded
from sparsesearch.data.samples import Sample
from sparsesearch.data.shard_reader import Entry, read_image

_ADVICE = "write the shard again; list all broken images with: sparsesearch data check wds:FOLDER --all"


@dataclass(frozen=True, eq=False)
class ShardSamples:
    """Samples of shards.

    Attributes:
        shards: The shards, with the digests of their contents.
        places: int64 `samples x 5`: number of the shard, position in it, offset and size of the image file, class.
        mode: Pillow image mode.
    """

    shards: tuple[tuple[Path, str], ...]
    places: NDArray[np.int64]
    mode: str

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        number, position, offset, size, label = self.places[index].tolist()
        shard, digest = self.shards[number]
        content = read_image(shard, digest, offset=offset, size=size)
        what = f"image {position} of {shard}"
        return decoded(io.BytesIO(content), mode=self.mode, what=what, advice=_ADVICE), label

    @property
    def labels(self) -> list[int]:
        """The classes of all samples."""
        return [int(label) for label in self.places[:, 4]]

    def taken(self, indices: Sequence[int]) -> ShardSamples:
        """Some of them, in the given order."""
        return replace(self, places=self.places[np.asarray(indices, dtype=np.int64)])

    def runs(self) -> tuple[int, ...]:
        """How many consecutive samples are from the same shard."""
        bounds = np.flatnonzero(np.diff(self.places[:, 0], prepend=-1, append=-1))
        return tuple(np.diff(bounds).tolist())


def decode_entry(entry: Entry, *, mode: str) -> Image.Image:
    """Decode the image of a sample.

    Raises:
        DataError: It is broken.
    """
    what = f"the image of {entry.where}"
    return decoded(io.BytesIO(entry.image), mode=mode, what=what, advice=_ADVICE)
