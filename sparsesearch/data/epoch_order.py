"""The order of the training images in an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WINDOW = 4096
"""Images of shards that are shuffled together, at least."""


def epoch_order(indices: NDArray[np.int64], *, runs: Sequence[int], seed: int) -> NDArray[np.int64]:
    """Shuffle images.

    Args:
        indices: The images.
        runs: Lengths of runs of images that are read fastest together, such as those of a shard. Runs are shuffled,
            and images among the next few runs; without any, all images are shuffled.
        seed: Seed of the order.
    """
    rng = np.random.default_rng(seed)
    if not runs:
        return rng.permutation(indices)
    parts = np.split(indices, np.cumsum(runs)[:-1])
    done: list[NDArray[np.int64]] = []
    window: list[NDArray[np.int64]] = []
    for number in rng.permutation(len(parts)).tolist():
        window.append(parts[number])
        if sum(map(len, window)) >= _WINDOW:
            done.append(rng.permutation(np.concatenate(window)))
            window = []
    return np.concatenate([*done, rng.permutation(np.concatenate(window))] if window else done)
