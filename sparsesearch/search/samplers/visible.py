"""Limit the results that a sampler uses to the best and the newest."""

from __future__ import annotations

import numpy as np

from sparsesearch.search.samplers.arrays import Floats, Ints


def split(num: int, *, most: int) -> tuple[int, int]:
    """Number of newest results to use, and number of best results among the older ones.

    The boundary between them moves only once in `most / 10` results, so that the selection of the best can be cached.

    Args:
        num: Number of results.
        most: Maximum number of results to use.
    """
    if num <= most:
        return num, 0
    step = max(1, most // 10)
    since = (num - most) % step
    newest = (most - step) // 2 + since
    return newest, most - step + since - newest


def best(top1: Floats, costs: Floats | None, *, count: int) -> Ints:
    """Indices of the best results, increasing; ties go to the older.

    Args:
        top1: Accuracies in order of trials.
        costs: Their costs, to rank by distance to the front; None to rank by accuracy alone.
        count: Number of results.
    """
    order = np.argsort(gaps_to_front(top1, costs), kind="stable")
    return np.sort(order[:count])


def gaps_to_front(top1: Floats, costs: Floats | None) -> Floats:
    """Accuracy gap of each result to the best result that costs no more; 0 on the front.

    Args:
        top1: Accuracies.
        costs: Costs; None if all costs are equal.
    """
    gaps: Floats = top1.max(initial=-np.inf) - top1
    if costs is None:
        return gaps
    order = np.lexsort((-top1, costs))
    gaps[order] = np.maximum.accumulate(top1[order]) - top1[order]
    return gaps
