"""The searched schedules beside those set by hand, budget by budget."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sparsesearch.analysis.regret import hand_budgets, within
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.trial import Axis, Origin, Trial

_SIGMAS_95 = 1.959964


@dataclass(frozen=True)
class HandComparison:
    """The best of both sides within one budget, measured at one fidelity on the same images.

    Attributes:
        axis: What the budget is counted in.
        budget: The budget.
        hand: The best hand schedule.
        searched: The best searched schedule, None if none is within the budget.
        difference: Accuracy of the searched one less that of the hand one, as a fraction.
        noise: Half the width of a 95 % interval of that difference if the two were measured on different images,
            None where the number of images is not recorded. Both see the same images, on which two models agree far
            more often than not, so the true width is smaller.
    """

    axis: Axis
    budget: float
    hand: Trial
    searched: Trial | None
    difference: float | None
    noise: float | None


def hand_comparison(view: StudyView) -> tuple[HandComparison, ...]:
    """One row for each budget that has a hand schedule at the fidelity of the front, cheapest first."""
    by_hand = [trial for trial in view.front.candidates if trial.origin is Origin.BASELINE]
    searched = [trial for trial in view.front.candidates if trial.origin is Origin.SEARCH]
    rows = []
    axis = view.front.axis
    for limit in hand_budgets(by_hand, axis):
        hand, found = within(by_hand, limit, axis), within(searched, limit, axis)
        assert hand is not None, "each budget is that of a hand schedule"
        difference = None if found is None else found.metrics["val_top1"] - hand.metrics["val_top1"]
        rows.append(
            HandComparison(
                axis, limit, hand, found, difference, None if found is None else _unpaired_noise(found, hand)
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
