"""The bundled task: find and read whole digits on a cluttered canvas.

Real handwritten 8x8 digits (scikit-learn's `load_digits`, 1797 of them) are split once by source digit, so that no
handwriting is shared between the splits. Digits and quarters of digits of one split are placed in different cells of a
3x3 layout. Only a few tokens matter, which is what a sparsification schedule can exploit.

- `plain`: one whole digit and three quarters of others; the label is the whole digit.
- `hard`: two whole digits and two quarters; the label is the larger digit. Both must be recognised before either can be
  dropped, so that reductions in late blocks matter more.
- `four`: four whole digits; the label is the largest digit. What has to be read is spread over the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "val", "test"]
Variant = Literal["plain", "hard", "four"]

CANVAS = 32
DIGIT = 8
CELL = 10
NUM_CLASSES = 10
_QUARTER = DIGIT // 2
_MAX_JITTER = 3
_NOISE_STD = 0.05
MEAN, STD = 0.1, 0.3
_SPLIT_SIZES = (1100, 300)
_SPLITS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}
_LAYOUTS: dict[Variant, tuple[int, int]] = {
    "plain": (0, 3),
    "hard": (1, 2),
    "four": (3, 0),
}  # additional whole digits, quarters


@dataclass(frozen=True)
class Canvases:
    """A set of canvases.

    Attributes:
        images: float32 `B x 1 x 32 x 32`, normalised.
        labels: int64 `B`, 0 to 9.
        corners: int64 `B x 2`, row and column of the top left pixel of the digit that determines the label.
        sources: int64 `B`, index of that digit in its split (canvases of one source are not independent).
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    corners: NDArray[np.int64]
    sources: NDArray[np.int64]


@cache
def _source_digits(split: Split) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images `n x 8 x 8` in [0, 1] and labels `n` of a split; the permutation must never change."""
    from sklearn.datasets import load_digits  # loads scipy

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    bounds = np.cumsum(_SPLIT_SIZES)
    part = np.split(order, bounds)[_SPLITS[split]]
    return (digits.images[part] / 16.0).astype(np.float32), digits.target[part].astype(np.int64)


def num_sources(split: Split) -> int:
    """Number of different whole digits of a split."""
    return len(_source_digits(split)[1])


def draw_canvases(split: Split, *, per_digit: int, seed: int, variant: Variant = "plain") -> Canvases:
    """Draw `per_digit` new canvases for every source digit of a split, in shuffled order.

    The source digit determines the label: additional whole digits are drawn from those that are not larger, so that
    labels are as frequent as digits.

    Args:
        split: Source digits to use, also for the quarters.
        per_digit: Canvases per source digit.
        seed: Seed of the layout, additional digits, quarters, contrast and noise.
        variant: Content of a canvas.
    """
    digits, labels = _source_digits(split)
    rng = np.random.default_rng([seed, _SPLITS[split]])
    sources = rng.permutation(np.repeat(np.arange(len(labels)), per_digit))
    count = len(sources)
    images = rng.normal(0.0, _NOISE_STD, (count, CANVAS, CANVAS)).astype(np.float32)

    num_further, num_quarters = _LAYOUTS[variant]
    num_whole = 1 + num_further
    cells = np.argsort(rng.random((count, 9)), axis=1)[:, : num_whole + num_quarters]
    tops = CELL * (cells // 3) + rng.integers(0, _MAX_JITTER + 1, cells.shape)
    lefts = CELL * (cells % 3) + rng.integers(0, _MAX_JITTER + 1, cells.shape)
    contrasts = rng.uniform(0.7, 1.0, cells.shape).astype(np.float32)

    whole = sources[:, None]
    if num_further:
        whole = np.concatenate([whole, _not_larger(labels, sources, count=num_further, rng=rng)], axis=1)
    for i in range(num_whole):
        _paste(images, digits[whole[:, i]] * contrasts[:, i, None, None], tops[:, i], lefts[:, i])
    others = (sources[:, None] + rng.integers(1, len(labels), (count, num_quarters))) % len(labels)
    rows = _QUARTER * rng.integers(0, 2, others.shape)
    columns = _QUARTER * rng.integers(0, 2, others.shape)
    span = np.arange(_QUARTER)
    for i in range(num_quarters):
        quarter = digits[
            others[:, i, None, None],
            (rows[:, i, None] + span)[:, :, None],
            (columns[:, i, None] + span)[:, None, :],
        ]
        index = num_whole + i
        _paste(images, quarter * contrasts[:, index, None, None], tops[:, index], lefts[:, index])

    return Canvases(
        images=((images - MEAN) / STD)[:, None].astype(np.float32),
        labels=labels[sources],
        corners=np.stack([tops[:, 0], lefts[:, 0]], axis=1).astype(np.int64),
        sources=sources.astype(np.int64),
    )


def _not_larger(
    labels: NDArray[np.int64], sources: NDArray[np.int64], *, count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """For each source digit, `count` others of the split whose value is not larger, `B x count`."""
    order = np.argsort(labels, kind="stable")
    rank = np.argsort(order)
    num_able = np.searchsorted(labels[order], labels[sources], side="right")[:, None]
    shift: NDArray[np.int64] = rng.integers(1, num_able, (len(sources), count))
    found: NDArray[np.int64] = order[(rank[sources][:, None] + shift) % num_able]
    return found


def _paste(
    images: NDArray[np.float32], patches: NDArray[np.float32], tops: NDArray[np.int64], lefts: NDArray[np.int64]
) -> None:
    """Add `B x s x s` patches to `B x H x W` images at the given corners, in place."""
    span = np.arange(patches.shape[-1])
    index = np.arange(len(images))[:, None, None]
    images[index, (tops[:, None] + span)[:, :, None], (lefts[:, None] + span)[:, None, :]] += patches
