"""The hypervolume of a study after each evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparsesearch.analysis.evaluations import Evaluation, evaluations, searched_fidelities
from sparsesearch.analysis.pareto import Point, dominated_percent, pareto_front
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
        baseline: Hypervolume of the hand-crafted baselines alone; None if there are none.
    """

    fidelity: Fidelity
    points: tuple[CurvePoint, ...]
    searched: tuple[CurvePoint, ...]
    baseline: float | None


def hypervolume_curves(view: StudyView) -> tuple[HypervolumeCurve, ...]:
    """One curve per fidelity with searched schedules; none until the dense model is measured."""
    dense = view.dense_point
    if dense is None:
        return ()
    curves = []
    for fidelity in searched_fidelities(view):
        here = [item for item in evaluations(view) if item.row.fidelity is fidelity]
        handcrafted = [item.point for item in here if item.row.origin is Origin.BASELINE]
        searched = [item for item in here if item.row.origin is Origin.SEARCH]
        curves.append(
            HypervolumeCurve(
                fidelity=fidelity,
                points=_curve(here, dense),
                searched=_curve(searched, dense),
                baseline=dominated_percent(handcrafted, dense=dense) if handcrafted else None,
            )
        )
    return tuple(curves)


def _curve(items: Sequence[Evaluation], dense: Point) -> tuple[CurvePoint, ...]:
    front: list[Point] = []
    value = 0.0
    points = []
    for item in items:
        score, cost = item.point
        if not any(above >= score and below <= cost for above, below in front):
            known = [*front, item.point]
            front = [known[i] for i in pareto_front(known)]
            value = dominated_percent(front, dense=dense)
        points.append(CurvePoint(item.position, item.seconds, value))
    return tuple(points)
