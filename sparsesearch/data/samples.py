"""Samples with access by index, and their assignment to splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from sparsesearch.errors import DataError

_SPLIT_SEED = 5
NUM_DECODED = 64
"""Number of images decoded as a check when data are opened, evenly spread."""
Sample = tuple[Image.Image, int]


class Samples(Protocol):
    """Images with their classes, by index."""

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, index: int, /) -> Sample:
        """One image, decoded, and its class."""


Part = tuple[Samples, Sequence[int]]
"""Data, and the indices of the samples of a split."""


@dataclass(frozen=True)
class Splits:
    """Data and its splits.

    Attributes:
        num_classes: Number of classes.
        fingerprint: Hash of the data and of how it is split.
        train: Training images.
        val: Validation images of a search.
        test: Test images.
        class_names: Names of the classes in the order of their labels; empty if unknown.
    """

    num_classes: int
    fingerprint: str
    train: Part
    val: Part
    test: Part
    class_names: tuple[str, ...] = ()


def shuffled(count: int) -> list[int]:
    """A fixed random order."""
    order: list[int] = np.random.default_rng(_SPLIT_SEED).permutation(count).tolist()
    return order


def hold_out(count: int, fraction: float) -> tuple[list[int], list[int]]:
    """Split indices into (held out, rest), by a fixed random choice.

    Raises:
        DataError: Nothing would be left.
    """
    order = shuffled(count)
    size = max(2, round(fraction * count))
    if size >= count - 1:
        raise DataError(f"{count} training images are too few to hold out {fraction:.0%} for validation")
    return order[:size], order[size:]
