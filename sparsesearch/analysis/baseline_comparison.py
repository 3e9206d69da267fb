"""The searched schedules beside hand-crafted ones, budget by budget."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sparsesearch.analysis.regret import baseline_budgets, within
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.trial import Axis, Origin, Trial

_SIGMAS_95 = 1.959964


@dataclass(frozen=True)
class BaselineComparison:
    """The best of both sides within one budget, measured at one fidelity on the same images.

    Attributes:
        axis: What the budget is counted in.
        budget: The budget.
        baseline: The best hand-crafted schedule.
        searched: The best searched schedule, None if none is within the budget.
        difference: Accuracy of the searched one less that of the baseline one, as a fraction.
        noise: Half the width of a 95 % interval of that difference if the two were measured on different images,
            None where the number of images is not recorded. Both see the same images, on which two models agree far
            more often than not, so the true width is smaller.
    """

    axis: Axis
    budget: float
    baseline: Trial
    searched: Trial | None
    difference: float | None
    noise: float | None


def compare_with_baselines(view: StudyView) -> tuple[BaselineComparison, ...]:
    """One row for each budget that has a hand-crafted schedule at the fidelity of the front, cheapest first."""
    handcrafted = [trial for trial in view.front.candidates if trial.origin is Origin.BASELINE]
    searched = [trial for trial in view.front.candidates if trial.origin is Origin.SEARCH]
    rows = []
    axis = view.front.axis
    for limit in baseline_budgets(handcrafted, axis):
        baseline, found = within(handcrafted, limit, axis), within(searched, limit, axis)
        assert baseline is not None, "each budget is that of a hand-crafted schedule"
        difference = None if found is None else found.metrics["val_top1"] - baseline.metrics["val_top1"]
        rows.append(
            BaselineComparison(
                axis, limit, baseline, found, difference, None if found is None else _unpaired_noise(found, baseline)
            )
        )
    return tuple(rows)


def _unpaired_noise(one: Trial, other: Trial) -> float | None:
    variance = 0.0
    for trial in (one, other):
        images = trial.metrics.get("val_images", 0.0)
        if not images > 0.0:
            return None
        accuracy = trial.metrics["val_top1"]
        variance += accuracy * (1.0 - accuracy) / images
    return _SIGMAS_95 * math.sqrt(variance)
