"""Which results a sampler looks at when there are more than it can handle: the best and the newest."""

from __future__ import annotations

import numpy as np

from sparsesearch.search.samplers.arrays import Floats, Ints


def split(num: int, *, most: int) -> tuple[int, int]:
    """How many of the newest results are seen whatever they are, and how many of the best of those before.

    What was there before the newest changes only once in `most / 10` results, so that the choice of the best, and what
    was learned from it, can be kept for a while.

    Args:
        num: How many results there are.
        most: How many are seen at most.
    """
    if num <= most:
        return num, 0
    step = max(1, most // 10)
    since = (num - most) % step
    newest = (most - step) // 2 + since
    return newest, most - step + since - newest


def best(top1: Floats, costs: Floats | None, *, count: int) -> Ints:
    """Indices of the best results, rising; of equal ones the older.

    Args:
        top1: Accuracies in the order of trials.
        costs: Their costs where a front is wanted: the best are those nearest to it. None ranks by accuracy alone.
        count: How many.
    """
    order = np.argsort(gaps_to_front(top1, costs), kind="stable")
    return np.sort(order[:count])


def gaps_to_front(top1: Floats, costs: Floats | None) -> Floats:
    """How much less accurate each result is than the best that costs no more; 0 on the front.

    Args:
        top1: Accuracies.
        costs: Costs, or None where everything costs alike.
    """
    gaps: Floats = top1.max(initial=-np.inf) - top1
    if costs is None:
        return gaps
    order = np.lexsort((-top1, costs))
    gaps[order] = np.maximum.accumulate(top1[order]) - top1[order]
    return gaps
