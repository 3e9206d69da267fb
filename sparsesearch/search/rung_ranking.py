"""Multi-objective promotion at a rung: rank by non-domination, and by an epsilon-net within a rank."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparsesearch.analysis.pareto import Point, pareto_front


def promising_order(points: Sequence[Point]) -> list[int]:
    """Order all points, most promising first.

    Points are ordered by fronts: the front of all points, then the front of the rest, and so on. A front is ordered as
    an epsilon-net: the most accurate point first, then repeatedly the point that is farthest from all previous ones,
    with both objectives scaled to the extent of all points, so that any prefix of a front covers all of it. Ties go to
    the more accurate, then to the earlier point. Of equal points, all but the first are in later fronts. A NaN counts
    as the worst value.

    Args:
        points: Accuracy (maximised) and cost (minimised) of each.

    Returns:
        A permutation of the indices into `points`. It depends on the values only, except for ties of equal points.

    Source: MO-ASHA, Schmucker et al. 2021 (arXiv:2106.12639); the epsilon-net from Salinas et al. 2021
    (arXiv:2106.05680).
    """
    usable = [
        (-math.inf if math.isnan(accuracy) else accuracy, math.inf if math.isnan(cost) else cost)
        for accuracy, cost in points
    ]
    scaled = list(zip(*(_scaled([point[axis] for point in usable]) for axis in (0, 1)), strict=True))
    left = list(range(len(points)))
    order: list[int] = []
    while left:
        front = [left[i] for i in pareto_front([usable[i] for i in left])]
        order += _spread(front, scaled)
        taken = set(front)
        left = [i for i in left if i not in taken]
    return order


def goes_on(points: Sequence[Point], *, newest: Point, factor: int) -> bool:
    """Whether a trial that has just reached a rung is among the best `1 / factor` there.

    Of `n` trials at the rung, including the newest, `ceil(n / factor)` continue, so the first always does and no trial
    waits (the stopping variant of ASHA).

    Args:
        points: Accuracy and cost of the other trials at this rung, whether they continued or not.
        newest: Accuracy and cost of the newest trial.
        factor: Reduction factor: one of `factor` trials continues.
    """
    everyone = [*points, newest]
    return len(points) in promising_order(everyone)[: -(-len(everyone) // factor)]


def _scaled(values: Sequence[float]) -> list[float]:
    """Values scaled to [0, 1], with infinite values clipped."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return [0.0 for _ in values]
    low, extent = min(finite), max(finite) - min(finite)
    return [(min(max(value, low), low + extent) - low) / extent if extent else 0.0 for value in values]


def _spread(front: Sequence[int], scaled: Sequence[tuple[float, ...]]) -> list[int]:
    """The members of a front (given cheapest first) in the order of an epsilon-net."""
    left = sorted(front, key=lambda i: (-scaled[i][0], i))
    order = [left.pop(0)]
    nearest = {i: math.dist(scaled[i], scaled[order[0]]) for i in left}
    while left:
        farthest = max(left, key=lambda i: nearest[i])  # ties go to the first, the most accurate
        left.remove(farthest)
        order.append(farthest)
        nearest = {i: min(nearest[i], math.dist(scaled[i], scaled[farthest])) for i in left}
    return order
