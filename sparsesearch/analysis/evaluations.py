"""The measured schedules of a study, in order of completion."""

from __future__ import annotations

from dataclasses import dataclass

from sparsesearch.analysis.pareto import Point
from sparsesearch.analysis.study_front import BEST_FIRST, cost_along, has_score
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.trial import Fidelity, Origin, Trial


@dataclass(frozen=True)
class Evaluation:
    """One measured schedule.

    Attributes:
        position: 1-based index; evaluated and fine-tuned schedules are counted together.
        trial: Its trial, which is complete.
        seconds: Seconds since the study was created; None if no time was recorded.
        point: Score (see `Metric.score`) and cost, in the unit of the study's front.
    """

    position: int
    trial: Trial
    seconds: float | None
    point: Point


def evaluations(view: StudyView) -> tuple[Evaluation, ...]:
    """All measured schedules, sorted by the time their trials ended, then by number."""
    scored = [trial for trial in view.trials if trial.fidelity in BEST_FIRST and has_score(trial, view.spec.metric)]
    scored.sort(key=lambda trial: (view.times_of(trial).ended_at or 0.0, trial.number))
    found = []
    for position, trial in enumerate(scored, start=1):
        ended = view.times_of(trial).ended_at
        seconds = None if ended is None else max(0.0, ended - view.times.created_at)
        point = view.score(trial), cost_along(trial, view.front.axis)
        found.append(Evaluation(position, trial, seconds, point))
    return tuple(found)


def searched_fidelities(view: StudyView) -> tuple[Fidelity, ...]:
    """Fidelities at which a searched schedule is measured, lowest first: evaluated before fine-tuned."""
    found = {item.trial.fidelity for item in evaluations(view) if item.trial.origin is Origin.SEARCH}
    return tuple(fidelity for fidelity in reversed(BEST_FIRST) if fidelity in found)
