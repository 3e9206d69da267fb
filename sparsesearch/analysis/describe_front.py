"""Describe the front of a study for display."""

from __future__ import annotations

import math
from collections.abc import Iterable

from sparsesearch.analysis.front_description import FrontDescription, FrontPoint, PublishedMark
from sparsesearch.analysis.study_front import joint_front, study_front
from sparsesearch.analysis.view import StudyView
from sparsesearch.analysis.words import accuracy_text, found_by, tokens_text
from sparsesearch.papers.overlay import PaperOverlay
from sparsesearch.study.trial import Axis, Origin, Trial
from sparsesearch.text import macs_text, macs_unit, percent_text


def describe_front(
    view: StudyView, *, axis: Axis | None = None, joint: bool = False, paper: PaperOverlay | None = None
) -> FrontDescription:
    """Describe the front of a study.

    Args:
        view: The study.
        axis: The cost axis; by default that of the budget.
        joint: Whether the front consists of the candidates that are non-dominated in accuracy, multiply-adds and
            milliseconds.
        paper: Published schedules to compare with. If they are of another backbone, the cost axis is in percent of the
            dense model's multiply-adds.
    """
    spec = view.spec
    axis = axis or spec.budget.axis
    assert paper is None or axis == "macs", "published schedules have no latency"
    front = view.front if axis == spec.budget.axis else study_front(view.trials, axis=axis, metric=spec.metric)
    unit, x_title = _cost_axis(front.candidates, axis)
    if paper is not None and not paper.same_backbone and front.reference is not None:
        unit, x_title = front.reference.cost.macs / 100, "cost per image, % of the dense model"
    on_front = joint_front(front) if joint else front.points
    points = describe_trials(view, front.candidates, axis=axis, unit=unit, on_front=on_front)
    points = tuple(sorted(points, key=lambda point: (point.x, point.trial.number)))
    dense, again = (
        () if trial is None else describe_trials(view, [trial], axis=axis, unit=unit)
        for trial in (front.reference, front.trained_dense)
    )
    numbers = [trial.number for trial in on_front]
    limit = view.limit if axis == spec.budget.axis else None
    name = None if paper is None else f"{paper.family.title}, published{', not comparable' if paper.caveat else ''}"
    return FrontDescription(
        study=spec.name,
        title=f"{spec.name}: {spec.backbone} within {spec.budget}",
        fidelity=front.fidelity,
        axis=axis,
        x_title=x_title,
        metric=spec.metric,
        dense=dense[0] if dense else None,
        trained_dense=again[0] if again else None,
        points=points,
        front=tuple(sorted((p for p in points if p.on_front), key=lambda p: numbers.index(p.trial.number))),
        best=next((point for point in points if point.is_best), None),
        why=why_best(view),
        bars=_bars(view, points),
        limit=None if limit is None else limit / unit,
        warnings=view.warnings,
        paper_name=name,
        paper=() if paper is None else _published(paper, unit=unit),
        caveat="" if paper is None else paper.caveat,
    )


def describe_trials(
    view: StudyView, trials: Iterable[Trial], *, axis: Axis = "macs", unit: float = 1.0, on_front: Iterable[Trial] = ()
) -> tuple[FrontPoint, ...]:
    """Describe trials of a study, in their order.

    Args:
        view: The study.
        trials: The trials, of any state.
        axis: The cost axis.
        unit: Divisor of the costs on it.
        on_front: The non-dominated trials.
    """
    dense, limit, budget_axis = view.front.reference, view.limit, view.spec.budget.axis
    metric = view.spec.metric
    numbers = {trial.number for trial in on_front}
    described = []
    for trial in trials:
        value, error = metric.of(trial.metrics), metric.standard_error(trial.metrics)
        cost, budget_cost = trial.cost.along(axis), trial.cost.along(budget_axis)
        is_dense = trial.origin is Origin.REFERENCE
        described.append(
            FrontPoint(
                trial=trial,
                x=math.nan if cost is None else cost / unit,
                y=metric.shown(value),
                standard_error=None if error is None else metric.shown(error),
                bar=_bar(view, trial),
                of_dense=None if dense is None else trial.cost.macs / dense.cost.macs,
                accuracy=accuracy_text(view.spec, trial),
                origin=found_by(trial),
                schedule="all" if is_dense else view.schedule_text(trial),
                tokens=tokens_text(view, trial),
                within_budget=limit is not None and budget_cost is not None and budget_cost <= limit,
                on_front=trial.number in numbers,
                is_best=view.best is not None and trial.number == view.best.number,
            )
        )
    return tuple(described)


def why_best(view: StudyView) -> str:
    """Why the best schedule of a study is the best: `the cheapest within one standard error of the most accurate`."""
    best, accurate = view.best, view.most_accurate
    if best is None or accurate is None or best.number == accurate.number:
        return "the most accurate one"
    most = f"the most accurate one, {accuracy_text(view.spec, accurate)} at {macs_text(accurate.cost.macs)}"
    if view.spec.pick == "knee":
        return f"beyond it, accuracy grows little; {most}"
    return f"the cheapest within one standard error of {most}"


def _bar(view: StudyView, trial: Trial) -> float | None:
    """Half the height of the error bar of a trial."""
    metric = view.spec.metric
    paired = None if view.best is None else view.difference(trial, view.best)
    if paired is None:
        error = metric.standard_error(trial.metrics)
    else:
        error = 0.0 if view.best is not None and trial.number == view.best.number else paired.standard_error
    return None if error is None else metric.shown(error)


def _bars(view: StudyView, points: Iterable[FrontPoint]) -> str:
    """What the error bars of points show."""
    best = view.best
    if best is not None and any(view.difference(point.trial, best) is not None for point in points):
        return "one standard error of the difference from the best schedule, on the same images"
    return "one standard error" if any(point.bar is not None for point in points) else ""


def _cost_axis(candidates: Iterable[Trial], axis: Axis) -> tuple[float, str]:
    """Divisor of the costs on the cost axis, and the title of that axis."""
    trials = list(candidates)
    if axis == "macs":
        unit, name = macs_unit(max((trial.cost.macs for trial in trials), default=0))
        return unit, f"cost per image, {name}"
    measured = {trial.cost.latency_ms is not None for trial in trials}
    how = "measured" if measured == {True} else "predicted" if measured == {False} else ""
    return 1.0, f"latency per call, ms ({how or 'measured where confirmed, otherwise predicted'})"


def _published(paper: PaperOverlay, *, unit: float) -> tuple[PublishedMark, ...]:
    marks = []
    for point in paper.points:
        known, label = point.published, f"rho {point.rho:g}"
        accuracy = "no accuracy published" if known is None else f"published: {percent_text(known.top1)} on ImageNet-1k"
        hint = f"{paper.family.title}, {label}\n{macs_text(point.macs)}, {percent_text(point.share)} of dense"
        marks.append(
            PublishedMark(
                x=point.macs / unit if paper.same_backbone else 100 * point.share,
                y=None if known is None else 100 * known.top1,
                label=label,
                hint=f"{hint}\n{accuracy}\n{point.tokens}",
            )
        )
    return tuple(marks)
