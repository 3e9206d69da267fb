"""Pareto fronts of accuracy (maximised) against multiply-adds (minimised), and their hypervolume."""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[float, float]
"""Accuracy as a fraction (larger is better) and multiply-adds (smaller is better)."""


def pareto_front(points: Sequence[Point]) -> list[int]:
    """Indices of the points that no other point dominates.

    A point dominates another if it is at least as accurate and at most as expensive, and better in one of the two. Of
    equal points, only the first is on the front. Points with a NaN are never on it.

    Args:
        points: Accuracy and multiply-adds of each.

    Returns:
        Indices into `points`, cheapest (and hence least accurate) first.
    """
    valid = [i for i, point in enumerate(points) if not any(math.isnan(value) for value in point)]
    front: list[int] = []
    best = -math.inf
    for i in sorted(valid, key=lambda i: (points[i][1], -points[i][0], i)):
        if points[i][0] > best or not front:
            front.append(i)
            best = points[i][0]
    return front


def hypervolume(points: Sequence[Point], *, reference: Point) -> float:
    """Area between a reference point and the front; larger is better.

    Adding a point never decreases it. Points that are not better than the reference in both objectives, and points
    with a NaN, contribute nothing.

    Args:
        points: Accuracy and multiply-adds of each, in any order.
        reference: The worst accuracy and the largest multiply-adds that count; hypervolumes with different reference
            points are not comparable.

    Returns:
        Accuracy times multiply-adds.

    Raises:
        ValueError: The reference point is not finite.
    """
    if not all(math.isfinite(value) for value in reference):
        raise ValueError(f"invalid reference point {reference}; both accuracy and multiply-adds must be finite")
    inside = [(accuracy, macs) for accuracy, macs in points if accuracy > reference[0] and macs < reference[1]]
    area, below = 0.0, reference[0]
    for index in pareto_front(inside):
        accuracy, macs = inside[index]
        area += (accuracy - below) * (reference[1] - macs)
        below = accuracy
    return area


def dominated_percent(points: Sequence[Point], *, dense_cost: float) -> float:
    """Hypervolume as 0 to 100 percent of what a model without errors and without cost would dominate.

    The reference point is fixed: accuracy 0 and the dense model's cost.

    Args:
        points: Accuracy, from 0 to 1, and cost of each, in any order.
        dense_cost: Cost of the dense model, above 0.
    """
    return 100.0 * hypervolume(points, reference=(0.0, dense_cost)) / dense_cost
