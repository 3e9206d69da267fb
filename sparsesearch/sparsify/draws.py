"""Random numbers that depend on the place of an image in a training step, not on the process that computes it.

The generator is SplitMix64, whose n-th number is a function of n: every process draws those of its own images alone, on
any device, and a training that is split among processes or into parts of a step sees the numbers of an undivided one.

Source: SplitMix64 is G. L. Steele, D. Lea and C. H. Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sparsesearch.seeds import derive_seed

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
_BITS = 24


class Draws:
    """The random numbers of one training step, for the images from a position on.

    Args:
        key: Seeds and words that name the step.
        first: Position of the first image in the step.
    """

    def __init__(self, *key: int | str, first: int = 0) -> None:
        self._key = key
        self._first = first
        self._num_drawn = 0

    def at(self, first: int) -> Draws:
        """The numbers of the same step for the images from another position on, from the first draw again."""
        return Draws(*self._key, first=first)

    def uniform(
        self, shape: tuple[int, ...], *, device: torch.device, purpose: str | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """Float32 numbers in (0, 1), with a row for each image.

        Args:
            shape: Shape of the numbers, images first.
            device: Where they are computed.
            purpose: Names the draw, so that it can be repeated; None for the next one of this object.
            rows: Which images these are, counted from the first one, int64 on the device; None for all in order.
        """
        if purpose is None:
            self._num_drawn += 1
            purpose = f"draw {self._num_drawn}"
        columns = math.prod(shape[1:])
        start = derive_seed(*self._key, purpose) + self._first * columns * _GOLDEN
        if rows is None:
            index = torch.arange(1, shape[0] * columns + 1, device=device)
        else:
            index = (rows[:, None] * columns + torch.arange(1, columns + 1, device=device)).flatten()
        word = index * _GOLDEN + _wrapped(start)
        for bits, factor in _MIX:
            word = (word ^ _shifted(word, bits)) * factor
        word = word ^ _shifted(word, 31)
        uniform: Tensor = _shifted(word, 64 - _BITS).float().add_(0.5).mul_(2.0**-_BITS).reshape(shape)
        return uniform

    def generator(self, purpose: str) -> np.random.Generator:
        """A generator for what all images of the step have in common."""
        return np.random.default_rng(derive_seed(*self._key, purpose))


def _wrapped(number: int) -> int:
    """The signed 64-bit integer with the same last 64 bits."""
    return (number + 2**63) % 2**64 - 2**63


def _shifted(word: Tensor, bits: int) -> Tensor:
    """Logical shift to the right of 64-bit words."""
    shifted: Tensor = (word >> bits) & (2 ** (64 - bits) - 1)
    return shifted
