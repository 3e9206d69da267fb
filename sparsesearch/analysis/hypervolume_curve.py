"""The hypervolume of a study after each evaluation."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sparsesearch.analysis.evaluations import Evaluation, evaluations, searched_fidelities
from sparsesearch.analysis.pareto import Point, dominated_percent, pareto_front
from sparsesearch.analysis.regret import baseline_budgets
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.trial import Fidelity, Origin


@dataclass(frozen=True)
class CurvePoint:
    """A value after an evaluation.

    Attributes:
        position: See `Evaluation.position`.
        seconds: See `Evaluation.seconds`.
        value: The value.
    """

    position: int
    seconds: float | None
    value: float


@dataclass(frozen=True)
class HypervolumeCurve:
    """The hypervolume of one fidelity; see `StudyView.hypervolume` for its reference point and scale.

    Attributes:
        fidelity: The fidelity. Curves of different fidelities are not comparable.
        points: One per measured schedule, baselines included; non-decreasing. The last one of the highest fidelity is
            `StudyView.hypervolume`.
        searched: The same over the searched schedules only.
        at_budgets: The same over the searched schedules only, of which the best within each budget of the baselines
            counts, as if it cost that budget: to be compared with `baseline`.
        baseline: Hypervolume of the best hand-crafted schedules within their budgets; None if there are none.
    """

    fidelity: Fidelity
    points: tuple[CurvePoint, ...]
    searched: tuple[CurvePoint, ...]
    at_budgets: tuple[CurvePoint, ...]
    baseline: float | None


def hypervolume_curves(view: StudyView) -> tuple[HypervolumeCurve, ...]:
    """One curve per fidelity with searched schedules; none until the dense model is measured."""
    dense_cost = view.dense_cost
    if dense_cost is None:
        return ()
    curves = []
    for fidelity in searched_fidelities(view):
        here = [item for item in evaluations(view) if item.row.fidelity is fidelity]
        handcrafted = [item for item in here if item.row.origin is Origin.BASELINE]
        baselines = [trial for trial in view.baselines if trial.fidelity is fidelity]
        budgets = baseline_budgets(baselines, view.front.axis)
        searched = [item for item in here if item.row.origin is Origin.SEARCH]
        curves.append(
            HypervolumeCurve(
                fidelity=fidelity,
                points=_curve(here, dense_cost),
                searched=_curve(searched, dense_cost),
                at_budgets=_curve(_rounded_up(searched, budgets), dense_cost),
                baseline=_curve(_rounded_up(handcrafted, budgets), dense_cost)[-1].value if budgets else None,
            )
        )
    return tuple(curves)


def _rounded_up(items: Sequence[Evaluation], budgets: Sequence[float]) -> list[Evaluation]:
    """Evaluations within the largest of some budgets, each at the cost of the budget above it."""
    return [
        replace(item, point=(item.point[0], budgets[index]))
        for item in items
        if (index := bisect_left(budgets, item.point[1])) < len(budgets)
    ]


def _curve(items: Sequence[Evaluation], dense_cost: float) -> tuple[CurvePoint, ...]:
    front: list[Point] = []
    value = 0.0
    points = []
    for item in items:
        score, cost = item.point
        if not any(above >= score and below <= cost for above, below in front):
            known = [*front, item.point]
            front = [known[i] for i in pareto_front(known)]
            value = dominated_percent(front, dense_cost=dense_cost)
        points.append(CurvePoint(item.position, item.seconds, value))
    return tuple(points)
