"""Hold out images class by class, by a fixed random choice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sparsesearch.errors import DataError

_SEED = 5


def hold_out(labels: Sequence[int], fraction: float, *, parts: int = 1) -> list[list[int]]:
    """Split images into held-out parts and the rest; every class is split in the same proportion.

    Each part has the fraction of the images of each class, rounded so that it is met over all classes, but at least two
    images of a class, one for either half of the search validation, where as many remain to train on. Every class keeps
    an image to train on.

    Args:
        labels: Class of each image.
        fraction: Of each part.
        parts: Number of held-out parts.

    Returns:
        Indices of each part, and of the rest in increasing order.

    Raises:
        DataError: Fewer than two images would be in a part.
    """
    of_class = _shuffled_by_class(labels)
    held: list[list[int]] = [[] for _ in range(parts)]
    carried = 0.0
    for members in of_class:
        exact = fraction * len(members) + carried
        count = max(round(exact), min(2, len(members) // (parts + 1)))
        count = min(count, (len(members) - 1) // parts)
        carried = max(-0.5, min(0.5, exact - count))
        for part in range(parts):
            held[part] += members[part * count : (part + 1) * count].tolist()
    if min(map(len, held)) < 2:
        raise DataError(f"{len(labels)} training images are too few to hold out {fraction:.0%} for validation")
    taken = {index for part in held for index in part}
    return [*held, [index for index in range(len(labels)) if index not in taken]]


def halves(indices: Sequence[int], labels: Sequence[int]) -> tuple[list[int], list[int]]:
    """Divide images into two halves with the same classes; the beginning of each is a fair sample of its classes.

    Args:
        indices: The images.
        labels: Class of each of these images.
    """
    made: tuple[list[tuple[float, int]], list[tuple[float, int]]] = ([], [])
    for members in _shuffled_by_class(labels):
        # The odd image of a class goes to the shorter half.
        first = len(made[0]) > len(made[1])
        for rank, position in enumerate(members.tolist()):
            made[(rank + first) % 2].append(((rank // 2 + 0.5) / len(members), indices[position]))
    rng = np.random.default_rng(_SEED)
    ordered = []
    for half in made:
        mixed = [half[position] for position in rng.permutation(len(half)).tolist()]  # no class is always first
        ordered.append([index for _, index in sorted(mixed, key=lambda entry: entry[0])])
    return ordered[0], ordered[1]


def alternating(first: Sequence[int], second: Sequence[int]) -> list[int]:
    """One sequence whose even positions are from the first half and whose odd positions are from the second."""
    common = min(len(first), len(second))
    pairs = [index for pair in zip(first[:common], second[:common], strict=True) for index in pair]
    return pairs + list(first[common : common + 1])


def _shuffled_by_class(labels: Sequence[int]) -> list[NDArray[np.int64]]:
    """The positions of each class in a fixed random order, the classes in increasing order."""
    array = np.asarray(labels, dtype=np.int64)
    order = np.random.default_rng(_SEED).permutation(len(array))
    order = order[np.argsort(array[order], kind="stable")]
    bounds = np.flatnonzero(np.diff(array[order])) + 1
    return [members.astype(np.int64) for members in np.split(order, bounds)] if len(array) else []
