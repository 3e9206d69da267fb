"""The measured schedules of a study, in order of completion."""

from __future__ import annotations

from dataclasses import dataclass

from sparsesearch.analysis.pareto import Point
from sparsesearch.analysis.study_front import BEST_FIRST
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.digest import TrialRow
from sparsesearch.study.trial import Fidelity, Origin, TrialState


@dataclass(frozen=True)
class Evaluation:
    """One measured schedule.

    Attributes:
        position: 1-based index; evaluated and fine-tuned schedules are counted together.
        row: Its trial, which is complete.
        seconds: Seconds since the study was created; None if no time was recorded.
        point: Score (see `Metric.score`) and cost, in the unit of the study's front.
    """

    position: int
    row: TrialRow
    seconds: float | None
    point: Point


def evaluations(view: StudyView) -> tuple[Evaluation, ...]:
    """All measured schedules, sorted by the time their trials ended, then by number."""
    axis, created_at = view.front.axis, view.times.created_at
    scored = [
        (row.ended_at or 0.0, row.number, row, row.score)
        for row in view.rows
        if row.score is not None and row.state is TrialState.COMPLETE and row.fidelity in BEST_FIRST
    ]
    return tuple(
        Evaluation(
            position,
            row,
            None if row.ended_at is None else max(0.0, row.ended_at - created_at),
            (score, row.cost_along(axis)),
        )
        for position, (*_, row, score) in enumerate(sorted(scored), start=1)
    )


def searched_fidelities(view: StudyView) -> tuple[Fidelity, ...]:
    """Fidelities at which a searched schedule is measured, lowest first: evaluated before fine-tuned."""
    found = {item.row.fidelity for item in evaluations(view) if item.row.origin is Origin.SEARCH}
    return tuple(fidelity for fidelity in reversed(BEST_FIRST) if fidelity in found)
