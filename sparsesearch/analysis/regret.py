"""The regret of a search against hand-crafted schedules, after each evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sparsesearch.analysis.evaluations import evaluations, searched_fidelities
from sparsesearch.analysis.study_front import cost_along
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.trial import Axis, Fidelity, Origin, Trial


@dataclass(frozen=True)
class RegretPoint:
    """Regrets after an evaluation.

    Attributes:
        position: See `Evaluation.position`.
        seconds: See `Evaluation.seconds`.
        by_budget: Regret at each budget of the curve; None while no searched schedule is within it.
        mean: Their mean; None while any of them is None.
    """

    position: int
    seconds: float | None
    by_budget: tuple[float | None, ...]
    mean: float | None


@dataclass(frozen=True)
class RegretCurve:
    """Regret against the hand-crafted schedules: in units of the metric, negative where the search is better.

    Attributes:
        fidelity: The fidelity at which both sides are measured.
        axis: Unit of the budgets.
        budgets: Budgets that have a hand-crafted schedule, cheapest first.
        baseline: The best score of a hand-crafted schedule within each budget.
        points: One per searched schedule of the fidelity.
    """

    fidelity: Fidelity
    axis: Axis
    budgets: tuple[float, ...]
    baseline: tuple[float, ...]
    points: tuple[RegretPoint, ...]


def regret_curves(view: StudyView) -> tuple[RegretCurve, ...]:
    """One curve per fidelity that has both searched and hand-crafted schedules.

    The regret at a budget is the accuracy of the best hand-crafted schedule within it, over the whole study, minus that
    of the best schedule that the search had found within it so far.
    """
    everything = evaluations(view)
    curves = []
    for fidelity in searched_fidelities(view):
        here = [item for item in everything if item.row.fidelity is fidelity]
        handcrafted = [trial for trial in view.baselines if trial.fidelity is fidelity]
        axis = view.front.axis
        budgets = baseline_budgets(handcrafted, axis)
        if not budgets:
            continue
        baseline = tuple(
            0.0 if (best_of := within(handcrafted, limit, axis, score=view.score)) is None else view.score(best_of)
            for limit in budgets
        )
        best: list[float | None] = [None] * len(budgets)
        points = []
        for item in here:
            if item.row.origin is not Origin.SEARCH:
                continue
            score, cost = item.point
            best = [
                score if cost <= limit and (so_far is None or score > so_far) else so_far
                for limit, so_far in zip(budgets, best, strict=True)
            ]
            regrets = tuple(None if b is None else h - b for h, b in zip(baseline, best, strict=True))
            known = [regret for regret in regrets if regret is not None]
            mean = sum(known) / len(known) if len(known) == len(regrets) else None
            points.append(RegretPoint(item.position, item.seconds, regrets, mean))
        curves.append(RegretCurve(fidelity, axis, budgets, baseline, tuple(points)))
    return tuple(curves)


def baseline_budgets(handcrafted: Iterable[Trial], axis: Axis) -> tuple[float, ...]:
    """The budgets that the baselines were solved for, cheapest first; their costs if no budget was recorded."""
    found: set[float] = set()
    for trial in handcrafted:
        recorded = trial.budget_macs if axis == "macs" else None
        found.add(cost_along(trial, axis) if recorded is None else recorded)
    return tuple(sorted(found))


def within(trials: Iterable[Trial], limit: float, axis: Axis, *, score: Callable[[Trial], float]) -> Trial | None:
    """The trial with the highest score that costs at most `limit`; ties go to the cheaper, then the earlier one."""
    affordable = [trial for trial in trials if cost_along(trial, axis) <= limit]
    return max(affordable, key=lambda t: (score(t), -cost_along(t, axis), -t.number), default=None)
