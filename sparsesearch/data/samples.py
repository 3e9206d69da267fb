"""Samples that can be looked up by index, and which of them belong to which split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from sparsesearch.errors import DataError

_SPLIT_SEED = 5
NUM_DECODED = 64
"""So many images are decoded when data are opened, spread over all of them."""
Sample = tuple[Image.Image, int]


class Samples(Protocol):
    """Images with their classes, by index."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int, /) -> Sample:
        """One image, decoded, and its class."""


Part = tuple[Samples, Sequence[int]]
"""Data, and which of its samples belong to a split."""


@dataclass(frozen=True)
class Splits:
    """Data and which of its samples belong to which split."""

    num_classes: int
    fingerprint: str
    train: Part
    val: Part
    test: Part


def shuffled(count: int) -> list[int]:
    """A fixed random order."""
    order: list[int] = np.random.default_rng(_SPLIT_SEED).permutation(count).tolist()
    return order


def hold_out(count: int, share: float) -> tuple[list[int], list[int]]:
    """(held out, rest): a fixed random choice.

    Raises:
        DataError: Nothing would be left.
    """
    order = shuffled(count)
    size = max(2, round(share * count))
    if size >= count - 1:
        raise DataError(f"{count} training images are too few to hold out {share:.0%} for validation")
    return order[:size], order[size:]
