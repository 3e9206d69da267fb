"""Acquisition functions: expected improvement of the best accuracy, or of the hypervolume of the front.

The cost of a schedule is known before its evaluation, its accuracy is not. The expected hypervolume improvement is
therefore a sum over the cost intervals between members of the front, each an expected improvement in closed form.

Shapes: `P` candidates, `K` intervals.
"""

from __future__ import annotations

import math

import numpy as np

from sparsesearch.search.samplers.arrays import Floats
from sparsesearch.search.samplers.predictor import Predictor
from sparsesearch.search.samplers.visible import gaps_to_front

_MAX_INTERVALS = 32
_BELOW = 0.1  # reference accuracy below the cheapest end of the front, as a fraction of the height of the front


class Gain:
    """Expected gain of an evaluation; larger is better.

    Accuracies and the area under the front are on the error scale of the predictor. The incumbents are the predicted
    accuracies of evaluated schedules, not the measured ones, because the maximum of many noisy measurements is biased.

    Args:
        predictor: The predictor.
        costs_N: Costs of the evaluated schedules, the first observations of the predictor.
        low: Lower end of the range of budgets; None for a single budget.
        limit: The largest cost that counts.
    """

    def __init__(self, predictor: Predictor, *, costs_N: Floats, low: float | None, limit: float) -> None:
        self._predictor, self._low, self._limit = predictor, low, limit
        top1_N = predictor.known_mean_N[: len(costs_N)]
        self.gaps_N = gaps_to_front(top1_N, None if low is None else costs_N)
        order = np.lexsort((-top1_N, costs_N))
        front = order[(self.gaps_N[order] == 0.0) & (np.diff(costs_N[order], prepend=-math.inf) > 0.0)]
        if len(front) > _MAX_INTERVALS:
            front = front[np.linspace(0, len(front) - 1, _MAX_INTERVALS).round().astype(np.int64)]
        self._front_top1, self._front_costs = top1_N[front], costs_N[front]

    def __call__(self, x_PF: Floats, costs_P: Floats) -> Floats:
        """Expected gain of each schedule.

        Args:
            x_PF: Features.
            costs_P: Costs.
        """
        mean_P, deviation_P = self._predictor.predict(x_PF)
        if self._low is None:
            return expected_improvement(mean_P, deviation_P, best=float(self._front_top1.max()))
        return expected_area(
            mean_P,
            deviation_P,
            costs_P,
            front_top1=self._front_top1,
            front_costs=self._front_costs,
            limit=self._limit,
        )


def expected_improvement(mean_P: Floats, deviation_P: Floats, *, best: float) -> Floats:
    """Expected improvement over the best accuracy so far.

    Source: Jones, Schonlau and Welch, Efficient Global Optimization (1998), equation 15.
    """
    return deviation_P * _excess((mean_P - best) / deviation_P)


def expected_area(
    mean_P: Floats, deviation_P: Floats, costs_P: Floats, *, front_top1: Floats, front_costs: Floats, limit: float
) -> Floats:
    """Expected hypervolume improvement, in accuracy times cost.

    Args:
        mean_P: Expected accuracies.
        deviation_P: Their standard deviations.
        costs_P: Costs.
        front_top1: Accuracies of the current front, increasing.
        front_costs: Their costs, increasing.
        limit: Largest cost that counts.
    """
    floor = front_top1[0] - max(1e-6, _BELOW * float(front_top1[-1] - front_top1[0]))
    best_K = np.concatenate([[floor], front_top1])
    edges = np.concatenate([[-math.inf], front_costs, [limit]])
    widths_PK = np.maximum(edges[1:] - np.maximum(edges[:-1], costs_P[:, None]), 0.0)
    ratio_PK = (mean_P[:, None] - best_K) / deviation_P[:, None]
    area_P: Floats = deviation_P * (widths_PK * _excess(ratio_PK)).sum(axis=1)
    return area_P


def _excess(ratio: Floats) -> Floats:
    """Expected positive part of a normal variable with mean `ratio` and standard deviation 1."""
    from scipy.special import ndtr  # SciPy takes longer to load than all other imports of a status

    density = np.exp(-0.5 * ratio**2) / math.sqrt(2.0 * math.pi)
    far = np.maximum(-ratio, 4.0)
    tail = density * (1.0 - 3.0 / far**2 + 15.0 / far**4) / far**2
    excess: Floats = np.where(ratio > -4.0, ratio * ndtr(ratio) + density, tail)
    return excess
