"""Searched schedules compared with hand-crafted ones, budget by budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sparsesearch.analysis.pairs import Z_95
from sparsesearch.analysis.regret import baseline_budgets, within
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.metric import Metric
from sparsesearch.study.trial import Axis, Origin, Trial
from sparsesearch.text import counted


@dataclass(frozen=True)
class BaselineComparison:
    """The best searched and the best hand-crafted schedule within one budget, at one fidelity on the same images.

    Attributes:
        axis: Unit of the budget.
        budget: The budget.
        baseline: The best hand-crafted schedule.
        searched: The best searched schedule, None if none is within the budget.
        difference: By how much the metric of the searched schedule is better, as a fraction.
        interval: The ends of the 95 % confidence interval of the difference; None if the number of images is unknown.
        is_paired: Whether the interval rests on the images that only one of the two classifies correctly; otherwise it
            is that of two independent samples, which is wider.
    """

    axis: Axis
    budget: float
    baseline: Trial
    searched: Trial | None
    difference: float | None
    interval: tuple[float, float] | None
    is_paired: bool = False

    @property
    def is_better(self) -> bool:
        """Whether the searched schedule is distinguishably better; without an interval, whether it is better at all."""
        return self.interval[0] > 0.0 if self.interval is not None else (self.difference or 0.0) > 0.0

    @property
    def is_worse(self) -> bool:
        """Whether the searched schedule is distinguishably worse; without an interval, whether it is worse at all."""
        return self.interval[1] < 0.0 if self.interval is not None else (self.difference or 0.0) < 0.0


def compare_with_baselines(view: StudyView) -> tuple[BaselineComparison, ...]:
    """One row per budget that has a hand-crafted schedule at the fidelity of the front, cheapest first."""
    handcrafted = [trial for trial in view.front.candidates if trial.origin is Origin.BASELINE]
    searched = [trial for trial in view.front.candidates if trial.origin is Origin.SEARCH]
    rows = []
    axis = view.front.axis
    for limit in baseline_budgets(handcrafted, axis):
        baseline, found = (within(trials, limit, axis, score=view.score) for trials in (handcrafted, searched))
        assert baseline is not None, "each budget is that of a hand-crafted schedule"
        if found is None:
            rows.append(BaselineComparison(axis, limit, baseline, None, None, None))
        else:
            rows.append(_compared(view, limit, baseline, found))
    return tuple(rows)


def comparison_sentence(rows: Sequence[BaselineComparison]) -> str:
    """Say at how many budgets the searched schedules are distinguishably better or worse."""
    better, worse = sum(row.is_better for row in rows), sum(row.is_worse for row in rows)
    equal = len(rows) - better - worse
    parts = [(better, "better"), (worse, "worse"), (equal, "not distinguishable")]
    if len(rows) in (better, worse, equal):
        where = f"all {len(rows)} budgets" if len(rows) > 1 else "the budget"
        words = next(words for count, words in parts if count)
        than = " from the best of them" if equal else " than the best of them"
        return f"Within {where} of the hand-crafted schedules, the searched one is {words}{than}."
    counts = [f"{words} at {count}" for count, words in parts if count]
    return (
        f"Compared within {counted(len(rows), 'budget')} of the hand-crafted schedules, the searched one is "
        f"{', '.join(counts)}."
    )


def _compared(view: StudyView, limit: float, baseline: Trial, searched: Trial) -> BaselineComparison:
    axis, difference = view.front.axis, view.score(searched) - view.score(baseline)
    paired = view.difference(searched, baseline)
    if paired is not None:
        return BaselineComparison(axis, limit, baseline, searched, difference, (paired.low, paired.high), True)
    noise = _unpaired_noise(view.spec.metric, searched, baseline)
    interval = None if noise is None else (difference - noise, difference + noise)
    return BaselineComparison(axis, limit, baseline, searched, difference, interval)


def _unpaired_noise(metric: Metric, one: Trial, other: Trial) -> float | None:
    errors = [metric.standard_error(trial.metrics) for trial in (one, other)]
    known = [error for error in errors if error is not None]
    return Z_95 * math.hypot(*known) if len(known) == len(errors) else None
