"""The front: accuracy against cost, with the dense model and the hand schedules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sparsesearch.report.chart import HALF, WIDE, Chart, Shape, legend, responsive
from sparsesearch.search.pareto import pareto_front
from sparsesearch.search.view import StudyView
from sparsesearch.search.words import accuracy_text, found_by, gmacs_text, percent
from sparsesearch.trial import Origin, Trial

HAND_SHAPES: tuple[Shape, ...] = ("square", "diamond", "up", "down")
Price = Callable[[Trial], float]


def front_charts(view: StudyView) -> str:
    """Accuracy against multiply-adds and, where latencies are known, against milliseconds."""
    by_macs = _front(view, view.front.candidates, _gmacs, "cost of one image, GMACs", budget=_budget(view), wide=WIDE)
    timed = [trial for trial in view.front.candidates if trial.cost.latency_ms is not None]
    if not timed:
        return by_macs + _legend(view)
    by_macs = _front(view, view.front.candidates, _gmacs, "cost of one image, GMACs", budget=_budget(view), wide=HALF)
    by_ms = _front(view, timed, _latency, "latency, ms", budget=None, wide=HALF)
    return f'<div class="pair"><div>{by_macs}</div><div>{by_ms}</div></div>{_legend(view)}'


def hint(view: StudyView, trial: Trial) -> str:
    """What a mark says when it is pointed at."""
    dense = view.front.reference
    share = "" if dense is None else f", {percent(trial.cost.macs / dense.cost.macs)} of dense"
    latency = "" if trial.cost.latency_ms is None else f", {trial.cost.latency_ms:.3g} ms"
    return (
        f"trial {trial.number}, {found_by(trial)}\n{accuracy_text(trial)} at {gmacs_text(trial.cost.macs)} GMACs"
        f"{share}{latency}\n{view.schedule_text(trial)}"
    )


def _front(
    view: StudyView, trials: Sequence[Trial], price: Price, x_title: str, *, budget: float | None, wide: int
) -> str:
    def draw(width: int) -> str:
        costs = [price(trial) for trial in trials]
        ys = [_percent(trial) for trial in trials]
        dense = view.front.reference
        level = [] if dense is None else [_percent(dense)]
        limits = [] if budget is None else [budget]
        height = 400 if width == WIDE else 320 if width == HALF else 270
        label = f"{x_title} against validation accuracy of {len(trials)} schedules"
        chart = Chart.over([*costs, *limits], [*ys, *level], width=width, height=height, label=label)
        chart.axes(x_title, "validation accuracy, %")
        if budget is not None:
            chart.limit(budget, "budget", text="budget")
        if dense is not None:
            chart.level(_percent(dense), "dense", text=f"dense model, {_percent(dense):.2f} %")
        searched = [trial for trial in trials if trial.origin is Origin.SEARCH]
        _marks(chart, view, searched, price, "search pale", "dot", 4.0)
        for shape, family in zip(HAND_SHAPES, _families(trials), strict=False):
            members = [trial for trial in trials if trial.label == family]
            chart.curve(_front_points(members, price), "hand", steps=True, dashed=True)
            _marks(chart, view, members, price, "hand", shape, 4.5)
        chart.curve(_front_points(searched, price), "search", steps=True)
        on_front = _on_front(trials, price)
        _marks(chart, view, [t for t in on_front if t.origin is Origin.SEARCH], price, "search", "dot", 5.0)
        best = view.best
        if best is not None and best in trials:
            _marks(chart, view, [best], price, "hand" if best.origin is Origin.BASELINE else "search", "star", 5.5)
        return chart.svg()

    return responsive(draw, wide=wide)


def _marks(
    chart: Chart, view: StudyView, trials: Sequence[Trial], price: Price, style: str, shape: Shape, size: float
) -> None:
    points = [(price(trial), _percent(trial)) for trial in trials]
    chart.marks(points, style, shape=shape, size=size, hints=[hint(view, trial) for trial in trials])


def _legend(view: StudyView) -> str:
    entries: list[tuple[str, str, Shape]] = [("searched, on the front", "search", "dot")]
    entries += [("searched", "search pale", "dot"), ("best within the budget", "search", "star")]
    families = zip(HAND_SHAPES, _families(view.front.candidates), strict=False)
    entries += [(f"by hand: {family}", "hand", shape) for shape, family in families]
    return legend(entries)


def _on_front(trials: Sequence[Trial], price: Price) -> list[Trial]:
    return [trials[i] for i in pareto_front([(_percent(trial), price(trial)) for trial in trials])]


def _front_points(trials: Sequence[Trial], price: Price) -> list[tuple[float, float]]:
    return [(price(trial), _percent(trial)) for trial in _on_front(trials, price)]


def _families(trials: Sequence[Trial]) -> list[str]:
    return sorted({trial.label for trial in trials if trial.origin is Origin.BASELINE})


def _percent(trial: Trial) -> float:
    return 100 * trial.metrics["val_top1"]


def _gmacs(trial: Trial) -> float:
    return trial.cost.macs / 1e9


def _latency(trial: Trial) -> float:
    return trial.cost.latency_ms or 0.0


def _budget(view: StudyView) -> float | None:
    return None if view.budget_macs is None else view.budget_macs / 1e9
