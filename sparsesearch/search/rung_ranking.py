"""Who goes on at a rung when a whole front is wanted: ranks by non-domination, and spread out within a rank."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparsesearch.analysis.pareto import Point, pareto_front


def promising_order(points: Sequence[Point]) -> list[int]:
    """All points, the most promising first.

    First the front of all points, then the front of the rest, and so on. Within a front an epsilon-net: the most
    accurate point first, then always the one that is farthest from all that come before it, both objectives scaled to
    the extent of all points; so a cut anywhere through a front leaves points over the whole of it. Of equally far
    points the more accurate comes first, then the earlier in the sequence. Of equal points all but the first wait for
    a later front. A NaN counts as the worst.

    Args:
        points: Accuracy (more is better) and cost (less is better) of each.

    Returns:
        Indices into `points`, each once. It depends on the values alone, but for ties of equal points.

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

    Of `n` trials at the rung, the newest included, `ceil(n / factor)` go on, so the first always does: nobody waits
    (the stopping variant of ASHA).

    Args:
        points: What the others had at this rung, whatever became of them.
        newest: What the newest has.
        factor: One of so many goes on.
    """
    everyone = [*points, newest]
    return len(points) in promising_order(everyone)[: -(-len(everyone) // factor)]


def _scaled(values: Sequence[float]) -> list[float]:
    """Values moved to [0, 1]; those that are not finite to its worse end."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return [0.0 for _ in values]
    low, extent = min(finite), max(finite) - min(finite)
    return [(min(max(value, low), low + extent) - low) / extent if extent else 0.0 for value in values]


def _spread(front: Sequence[int], scaled: Sequence[tuple[float, ...]]) -> list[int]:
    """The members of a front, given the cheapest first, in the order of an epsilon-net."""
    left = sorted(front, key=lambda i: (-scaled[i][0], i))
    order = [left.pop(0)]
    nearest = {i: math.dist(scaled[i], scaled[order[0]]) for i in left}
    while left:
        farthest = max(left, key=lambda i: nearest[i])  # the first of equally far ones: the most accurate
        left.remove(farthest)
        order.append(farthest)
        nearest = {i: min(nearest[i], math.dist(scaled[i], scaled[farthest])) for i in left}
    return order
