"""The Pareto front: accuracy against cost, with the dense model and the hand-crafted schedules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sparsesearch.analysis.pareto import pareto_front
from sparsesearch.analysis.view import StudyView
from sparsesearch.analysis.words import accuracy_text, found_by, latency_text, of_dense_text
from sparsesearch.papers.overlay import PaperOverlay
from sparsesearch.report.chart import HALF, WIDE, Chart, Shape, legend, responsive
from sparsesearch.study.trial import Origin, Trial
from sparsesearch.text import macs_text, macs_unit, percent_text

BASELINE_SHAPES: tuple[Shape, ...] = ("square", "diamond", "up", "down")
Price = Callable[[Trial], float]


class _PaperMark(NamedTuple):
    """A published schedule: its position on the cost axis, its accuracy in percent or None, and its tooltip."""

    cost: float
    top1: float | None
    hint: str


def front_charts(view: StudyView, paper: PaperOverlay | None = None) -> str:
    """Accuracy against multiply-adds and, where latencies are known, against milliseconds.

    Args:
        view: The study.
        paper: A paper's schedules to draw over the first. If they are of another backbone, its cost axis is in percent
            of the dense model's multiply-adds.
    """
    trials = view.front.candidates
    timed = [trial for trial in trials if trial.cost.ms is not None]
    dense, limit = view.front.reference, view.budget_macs
    unit, name = macs_unit(max((trial.cost.macs for trial in trials), default=0))
    x_title = f"cost per image, {name}"
    if paper is not None and not paper.same_backbone and dense is not None:
        unit, x_title = dense.cost.macs / 100, "cost per image, % of the dense model"
    by_macs = _front(
        view,
        trials,
        lambda trial: trial.cost.macs / unit,
        x_title,
        budget=None if limit is None else limit / unit,
        wide=HALF if timed else WIDE,
        paper=() if paper is None else _paper_marks(paper, unit=unit),
    )
    if not timed:
        return by_macs + _legend(view, paper)
    known = {trial.cost.latency_ms is not None for trial in timed}
    how = (
        "measured where confirmed, otherwise predicted"
        if len(known) > 1
        else "measured"
        if True in known
        else "predicted"
    )
    budget = view.limit if view.front.axis == "ms" else None
    by_ms = _front(view, timed, _latency, f"latency per call, ms ({how})", budget=budget, wide=HALF)
    return f'<div class="pair"><div>{by_macs}</div><div>{by_ms}</div></div>{_legend(view, paper)}'


def hint(view: StudyView, trial: Trial) -> str:
    """The tooltip of a marker."""
    dense = view.front.reference
    of_dense = "" if dense is None else f", {of_dense_text(trial.cost.macs, dense.cost.macs)} of dense"
    latency = "" if trial.cost.ms is None else f", {latency_text(trial)}"
    return (
        f"trial {trial.number}, {found_by(trial)}\n{accuracy_text(trial)} at {macs_text(trial.cost.macs)}"
        f"{of_dense}{latency}\n{view.schedule_text(trial)}"
    )


def _front(
    view: StudyView,
    trials: Sequence[Trial],
    price: Price,
    x_title: str,
    *,
    budget: float | None,
    wide: int,
    paper: Sequence[_PaperMark] = (),
) -> str:
    def draw(width: int) -> str:
        costs = [price(trial) for trial in trials]
        ys = [_percent(trial) for trial in trials]
        dense = view.front.reference
        level = [] if dense is None else [_percent(dense)]
        limits = [] if budget is None else [budget]
        height = 400 if width == WIDE else 320 if width == HALF else 270
        label = f"validation accuracy against {x_title}, {len(trials)} schedules"
        published = [mark.top1 for mark in paper if mark.top1 is not None]
        xs = [*costs, *limits, *(mark.cost for mark in paper)]
        chart = Chart.over(xs, [*ys, *level, *published], width=width, height=height, label=label)
        chart.axes(x_title, "validation accuracy, %")
        if budget is not None:
            chart.limit(budget, "budget", text="budget")
        if dense is not None:
            chart.level(_percent(dense), "dense", text=f"dense model, {_percent(dense):.2f} %")
        searched = [trial for trial in trials if trial.origin is Origin.SEARCH]
        _marks(chart, view, searched, price, "search pale", "dot", 4.0)
        for shape, family in zip(BASELINE_SHAPES, _families(trials), strict=False):
            members = [trial for trial in trials if trial.label == family]
            chart.curve(_front_points(members, price), "baseline", steps=True, dashed=True)
            _marks(chart, view, members, price, "baseline", shape, 4.5)
        chart.curve(_front_points(searched, price), "search", steps=True)
        on_front = _on_front(trials, price)
        _marks(chart, view, [t for t in on_front if t.origin is Origin.SEARCH], price, "search", "dot", 5.0)
        best = view.best
        if best is not None and best in trials:
            _marks(chart, view, [best], price, "baseline" if best.origin is Origin.BASELINE else "search", "star", 5.5)
        for mark in paper:
            if mark.top1 is None:
                chart.foot(mark.cost, "paper", hint=mark.hint)
            else:
                chart.marks([(mark.cost, mark.top1)], "paper", shape="ring", size=5.5, hints=[mark.hint])
        return chart.svg()

    return responsive(draw, wide=wide)


def _marks(
    chart: Chart, view: StudyView, trials: Sequence[Trial], price: Price, style: str, shape: Shape, size: float
) -> None:
    points = [(price(trial), _percent(trial)) for trial in trials]
    chart.marks(points, style, shape=shape, size=size, hints=[hint(view, trial) for trial in trials])


def _paper_marks(paper: PaperOverlay, *, unit: float) -> list[_PaperMark]:
    marks = []
    for point in paper.points:
        cost = point.macs / unit if paper.same_backbone else 100 * point.share
        known = point.published
        accuracy = "no accuracy published" if known is None else f"published: {100 * known.top1:.2f} % on ImageNet-1k"
        hint = f"{paper.family.title}, rho {point.rho:g}\n{macs_text(point.macs)}, {percent_text(point.share)} of dense"
        marks.append(
            _PaperMark(cost, None if known is None else 100 * known.top1, f"{hint}\n{accuracy}\n{point.tokens}")
        )
    return marks


def _legend(view: StudyView, paper: PaperOverlay | None) -> str:
    entries: list[tuple[str, str, Shape]] = [("searched, on the front", "search", "dot")]
    entries += [("searched", "search pale", "dot"), ("best within the budget", "search", "star")]
    families = zip(BASELINE_SHAPES, _families(view.front.candidates), strict=False)
    entries += [(f"hand-crafted: {family}", "baseline", shape) for shape, family in families]
    if paper is not None:
        entries.append(
            (f"{paper.family.title}, published{', not comparable' if paper.caveat else ''}", "paper", "ring")
        )
    return legend(entries)


def _on_front(trials: Sequence[Trial], price: Price) -> list[Trial]:
    return [trials[i] for i in pareto_front([(_percent(trial), price(trial)) for trial in trials])]


def _front_points(trials: Sequence[Trial], price: Price) -> list[tuple[float, float]]:
    return [(price(trial), _percent(trial)) for trial in _on_front(trials, price)]


def _families(trials: Sequence[Trial]) -> list[str]:
    return sorted({trial.label for trial in trials if trial.origin is Origin.BASELINE})


def _percent(trial: Trial) -> float:
    return 100 * trial.metrics["val_top1"]


def _latency(trial: Trial) -> float:
    return trial.cost.ms or 0.0
