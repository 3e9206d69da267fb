"""The images of a folder in arrays: a million of them take some tens of megabytes."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsesearch.data.file_walk import FoundFile
from sparsesearch.data.layouts import SplitName
from sparsesearch.data.repaired import FolderImage

SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class ImageTable:
    """Image files with their splits and classes.

    Attributes:
        folders: Folder of each split.
        classes: Names of the class folders in the order of their labels.
        names: uint8, the paths below the class folders, one after the other.
        starts: int64 `n`, where the name of each image begins.
        lengths: uint16 `n`, length of each name in bytes.
        labels: int32 `n`, class of each image.
        splits: uint8 `n`, its split: 0 train, 1 val, 2 test.
    """

    folders: Mapping[SplitName, str]
    classes: tuple[str, ...]
    names: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.uint16]
    labels: NDArray[np.int32]
    splits: NDArray[np.uint8]

    @classmethod
    def of(
        cls,
        folders: Mapping[SplitName, str],
        classes: tuple[str, ...],
        *,
        names: NDArray[np.uint8],
        lengths: ArrayLike,
        labels: ArrayLike,
        splits: ArrayLike,
    ) -> ImageTable:
        """A table of names that are one after the other, without gaps."""
        sizes = np.asarray(lengths, dtype=np.uint16)
        ends = np.cumsum(sizes, dtype=np.int64)
        return cls(
            folders,
            classes,
            names,
            ends - sizes,
            sizes,
            np.asarray(labels, dtype=np.int32),
            np.asarray(splits, dtype=np.uint8),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Path of an image below its class folder."""
        start = int(self.starts[index])
        return os.fsdecode(self.names[start : start + int(self.lengths[index])].tobytes())

    def path(self, index: int) -> str:
        """Path of an image."""
        return f"{self.folders[SPLITS[self.splits[index]]]}/{self.classes[self.labels[index]]}/{self.name(index)}"

    def taken(self, indices: ArrayLike) -> ImageTable:
        """Some of the images, in the given order; the names are shared."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            starts=self.starts[chosen],
            lengths=self.lengths[chosen],
            labels=self.labels[chosen],
            splits=self.splits[chosen],
        )


@dataclass(frozen=True, eq=False)
class Listing:
    """Image files as they were found.

    Attributes:
        table: The images.
        keys: int64 `n x 4`, the key of each file.
    """

    table: ImageTable
    keys: NDArray[np.int64]

    @classmethod
    def of(
        cls, images: Iterable[FolderImage], *, folders: Mapping[SplitName, str], classes: tuple[str, ...]
    ) -> Listing:
        """The listing of images in order; only numbers are kept of each."""
        names, lengths, labels, splits, keys = bytearray(), array("H"), array("i"), array("B"), array("q")
        for image in images:
            name = os.fsencode(image.file.name)
            names += name
            lengths.append(len(name))
            labels.append(image.label)
            splits.append(SPLITS.index(image.split))
            keys.extend(image.file.key)
        table = ImageTable.of(
            folders,
            classes,
            names=np.frombuffer(bytes(names), dtype=np.uint8),
            lengths=lengths,
            labels=labels,
            splits=splits,
        )
        return cls(table, np.frombuffer(keys, dtype=np.int64).reshape(-1, 4))

    def __len__(self) -> int:
        return len(self.table)

    def files(self, indices: Iterable[int]) -> list[FoundFile]:
        """Some of the files."""
        return [self._file(index) for index in indices]

    def images(self, digests: NDArray[np.uint8]) -> list[FolderImage]:
        """All images with the digests of their contents."""
        table = self.table
        return [
            FolderImage(SPLITS[split], label, self._file(index), digest.tobytes().hex())
            for index, (split, label, digest) in enumerate(
                zip(table.splits.tolist(), table.labels.tolist(), digests, strict=True)
            )
        ]

    def _file(self, index: int) -> FoundFile:
        size, modified, changed, inode = self.keys[index].tolist()
        return FoundFile(self.table.path(index), self.table.name(index), (size, modified, changed, inode))
