"""Searched schedules compared with hand-crafted ones, budget by budget."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sparsesearch.analysis.regret import baseline_budgets, within
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.metric import Metric
from sparsesearch.study.trial import Axis, Origin, Trial

_SIGMAS_95 = 1.959964


@dataclass(frozen=True)
class BaselineComparison:
    """The best searched and the best hand-crafted schedule within one budget, at one fidelity on the same images.

    Attributes:
        axis: Unit of the budget.
        budget: The budget.
        baseline: The best hand-crafted schedule.
        searched: The best searched schedule, None if none is within the budget.
        difference: By how much the metric of the searched schedule is better, as a fraction.
        noise: Half-width of the 95 % confidence interval of that difference for independent image samples; None if the
            number of images is not recorded. Both are measured on the same images, so the paired interval is narrower.
    """

    axis: Axis
    budget: float
    baseline: Trial
    searched: Trial | None
    difference: float | None
    noise: float | None


def compare_with_baselines(view: StudyView) -> tuple[BaselineComparison, ...]:
    """One row per budget that has a hand-crafted schedule at the fidelity of the front, cheapest first."""
    handcrafted = [trial for trial in view.front.candidates if trial.origin is Origin.BASELINE]
    searched = [trial for trial in view.front.candidates if trial.origin is Origin.SEARCH]
    rows = []
    axis = view.front.axis
    for limit in baseline_budgets(handcrafted, axis):
        baseline, found = (within(trials, limit, axis, score=view.score) for trials in (handcrafted, searched))
        assert baseline is not None, "each budget is that of a hand-crafted schedule"
        difference = None if found is None else view.score(found) - view.score(baseline)
        rows.append(
            BaselineComparison(
                axis,
                limit,
                baseline,
                found,
                difference,
                None if found is None else _unpaired_noise(view.spec.metric, found, baseline),
            )
        )
    return tuple(rows)


def _unpaired_noise(metric: Metric, one: Trial, other: Trial) -> float | None:
    errors = [metric.standard_error(trial.metrics) for trial in (one, other)]
    known = [error for error in errors if error is not None]
    return _SIGMAS_95 * math.hypot(*known) if len(known) == len(errors) else None
