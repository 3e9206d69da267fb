"""Metrics of the study's run: the best schedule over the course of the search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sparsesearch.analysis.evaluations import Evaluation, evaluations
from sparsesearch.analysis.study_front import BEST_FIRST
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.trial import Fidelity, Origin


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
    best: dict[Fidelity, Evaluation] = {}
    searched: set[Fidelity] = set()
    shown: int | None = None
    for item in evaluations(view):
        row, (_, cost) = item.row, item.point
        if row.origin is Origin.SEARCH:
            searched.add(row.fidelity)
        if cost <= limit and (row.fidelity not in best or _rank(item) > _rank(best[row.fidelity])):
            best[row.fidelity] = item
        counts = next((fidelity for fidelity in BEST_FIRST if fidelity in searched), None)
        now = best.get(counts) if counts is not None else None
        if now is not None and now.row.number != shown:
            shown = now.row.number
            at = milliseconds(row.ended_at or view.times.created_at)
            yield Point(metric.name, metric.of_score(now.point[0]), item.position, at)
            yield Point("gmacs", now.row.macs / 1e9, item.position, at)
            yield Point("of_dense", now.row.macs / dense.cost.macs, item.position, at)


def _rank(item: Evaluation) -> tuple[float, int]:
    return item.point[0], -item.row.macs
