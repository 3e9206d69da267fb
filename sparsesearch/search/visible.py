"""Which results a sampler looks at when there are more than it can handle: the best and the newest."""

from __future__ import annotations

import numpy as np

from sparsesearch.search.arrays import Floats, Ints


def visible(top1: Floats, costs: Floats | None, *, most: int) -> Ints:
    """Indices of the results that a sampler sees, rising.

    The choice depends on the results alone, and changes only once in `most / 10` results, so that what was learned
    from it can be kept for a while.

    Args:
        top1: Accuracies in the order of trials.
        costs: Their costs where a front is wanted: the best are those nearest to it. None ranks by accuracy alone.
        most: How many are seen at most.
    """
    num, step = len(top1), max(1, most // 10)
    if num <= most:
        return np.arange(num)
    cut = num - (num - most) % step
    newest = cut - (most - step) // 2
    gaps = gaps_to_front(top1[:newest], None if costs is None else costs[:newest])
    order = np.lexsort((np.arange(newest), gaps))
    best = np.sort(order[: most - step - (cut - newest)])
    return np.concatenate([best, np.arange(newest, num)])


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
