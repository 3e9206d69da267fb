"""Select the candidates to fine-tune."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sparsesearch.analysis.pareto import pareto_front
from sparsesearch.analysis.study_front import cost_along
from sparsesearch.study.metric import VAL_TOP1, Metric
from sparsesearch.study.trial import Axis, Trial, TrialState


def choose_finalists(
    candidates: Sequence[Trial],
    *,
    count: int,
    low: float | None,
    high: float,
    axis: Axis = "macs",
    metric: Metric = VAL_TOP1,
    required: Sequence[Trial] = (),
) -> list[Trial]:
    """The candidates to fine-tune. Deterministic: ties go to the cheaper, then to the lower trial number.

    Trials that are not complete, have no finite metric, or cost more than `high` are excluded, and of several
    trials of one model (equal keys) only the best is considered.

    For a single budget, the finalists are the best by the metric. For a range, they are members of the front, spread
    evenly over its costs and up to twice as densely where accuracy changes; at most one is below the range. If the
    front has fewer members, the best other candidates within evenly spaced budgets of the range follow, and then the
    best of the rest.

    Args:
        candidates: Evaluated trials, all of one fidelity.
        count: Maximum number of finalists.
        low: Lower end of the range of budgets; None for a single budget.
        high: The budget, or the upper end of the range.
        axis: Unit of budgets and costs.
        metric: The metric to rank by.
        required: Candidates that are finalists in any case, even if there are more than `count`.

    Returns:
        Those that are required, then the best first; for a range, members of the front from the most expensive to the
        cheapest, then the others.

    Raises:
        ValueError: The candidates are of several fidelities.
    """
    first, ranked = _ranked(candidates, high=high, axis=axis, metric=metric, required=required)
    count = max(0, count - len(first))
    if low is None or not ranked or not count:
        return first + ranked[:count]
    points = [(metric.score(trial.metrics), cost_along(trial, axis)) for trial in ranked]
    front = pareto_front(points)
    front = front[max(0, sum(points[i][1] <= low for i in front) - 1) :]
    chosen = [ranked[front[i]] for i in reversed(_spread([points[i] for i in front], count))]
    left = [trial for trial in ranked if trial not in chosen]
    num_left = count - len(chosen)
    for budget in np.linspace(low, high, num_left).tolist():
        within = next((trial for trial in left if cost_along(trial, axis) <= budget), None)
        if within is not None:
            chosen.append(within)
            left.remove(within)
    return first + chosen + left[: count - len(chosen)]


def nearest_to_front(
    candidates: Sequence[Trial],
    *,
    count: int,
    high: float,
    axis: Axis = "macs",
    metric: Metric = VAL_TOP1,
    required: Sequence[Trial] = (),
) -> list[Trial]:
    """The candidates by how much they are below the front at their cost; see `choose_finalists`.

    Returns:
        Those that are required, then the members of the front and those nearest to it, the best first.
    """
    first, ranked = _ranked(candidates, high=high, axis=axis, metric=metric, required=required)
    by_cost = sorted((*first, *ranked), key=lambda trial: cost_along(trial, axis))
    best, below = -math.inf, {}
    for trial in by_cost:
        best = max(best, metric.score(trial.metrics))
        below[trial.number] = best - metric.score(trial.metrics)
    nearest = sorted(ranked, key=lambda trial: below[trial.number])  # stable: of equals, the best first
    return first + nearest[: max(0, count - len(first))]


def _ranked(
    candidates: Sequence[Trial], *, high: float, axis: Axis, metric: Metric, required: Sequence[Trial]
) -> tuple[list[Trial], list[Trial]]:
    """Those that are required, and the others that may be chosen, the best first."""
    if len({trial.fidelity for trial in candidates}) > 1:
        raise ValueError("candidates of several fidelities are not comparable; pass those of one fidelity")
    able = [
        trial
        for trial in candidates
        if trial.state is TrialState.COMPLETE
        and cost_along(trial, axis) <= high
        and math.isfinite(metric.of(trial.metrics))
    ]
    best_of_model: dict[str, Trial] = {}
    for trial in sorted(able, key=lambda t: (-metric.score(t.metrics), cost_along(t, axis), t.number)):
        best_of_model.setdefault(trial.key, trial)
    first = [best_of_model[key] for key in dict.fromkeys(trial.key for trial in required) if key in best_of_model]
    return first, [trial for trial in best_of_model.values() if trial not in first]


def _spread(front: Sequence[tuple[float, float]], count: int) -> list[int]:
    """Indices of evenly spread members of a front (accuracy and cost, cheapest first), both ends included."""
    if len(front) <= count:
        return list(range(len(front)))
    values_P2 = np.asarray(front)
    extent_2 = np.ptp(values_P2, axis=0)
    accuracy_P, cost_P = (
        np.diff(values_P2, axis=0) / extent_2
    ).T  # no two members of a front are equal in either objective
    way_P = np.concatenate(([0.0], (cost_P + np.minimum(accuracy_P, cost_P)).cumsum()))
    free = dict(enumerate(way_P.tolist()))
    for wanted in np.linspace(way_P[-1], 0.0, count).tolist():
        del free[min(free, key=lambda i: (abs(free[i] - wanted), i))]
    return sorted(set(range(len(front))) - free.keys())
