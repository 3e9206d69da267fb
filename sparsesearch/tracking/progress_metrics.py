"""Metrics of the study's run: the best schedule over the course of the search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sparsesearch.analysis.evaluations import evaluations
from sparsesearch.analysis.study_front import BEST_FIRST, cost_along
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.trial import Fidelity, Origin, Trial


@dataclass(frozen=True)
class Point:
    """One value of a metric. MLflow stores identical points only once."""

    key: str
    value: float
    step: int
    time_ms: int


def milliseconds(seconds: float) -> int:
    """Convert seconds since 1970 to MLflow's milliseconds."""
    return round(seconds * 1000)


def progress_points(view: StudyView) -> Iterator[Point]:
    """Yield the dense model, and the best schedule within the budget each time it changed.

    A step is one evaluated schedule. As in `StudyFront.best`, only the highest fidelity with a searched schedule
    counts, so the curve may drop once, when fine-tuned schedules replace evaluated ones. The names are those of the
    trainings, so that a table of runs has one column for each.

    Args:
        view: The study; further trials only add points.
    """
    dense, limit, metric = view.front.reference, view.limit, view.spec.metric
    if dense is None or limit is None:
        return
    at = milliseconds(view.times_of(dense).ended_at or view.times.created_at)
    yield Point(f"dense_{metric.name}", metric.of(dense.metrics), 0, at)
    yield Point("dense_gmacs", dense.cost.macs / 1e9, 0, at)
    best: dict[Fidelity, Trial] = {}
    searched: set[Fidelity] = set()
    shown: int | None = None
    for item in evaluations(view):
        step, trial = item.position, item.trial
        if trial.origin is Origin.SEARCH:
            searched.add(trial.fidelity)
        affordable = cost_along(trial, view.front.axis) <= limit
        if affordable and (trial.fidelity not in best or _rank(view, trial) > _rank(view, best[trial.fidelity])):
            best[trial.fidelity] = trial
        counts = next((fidelity for fidelity in BEST_FIRST if fidelity in searched), None)
        now = best.get(counts) if counts is not None else None
        if now is not None and now.number != shown:
            shown = now.number
            at = milliseconds(view.times_of(trial).ended_at or view.times.created_at)
            yield Point(metric.name, metric.of(now.metrics), step, at)
            yield Point("gmacs", now.cost.macs / 1e9, step, at)
            yield Point("of_dense", now.cost.macs / dense.cost.macs, step, at)


def _rank(view: StudyView, trial: Trial) -> tuple[float, int]:
    return view.score(trial), -trial.cost.macs
