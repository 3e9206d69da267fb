"""The Pareto front: accuracy against cost, with the dense model and the hand-crafted schedules."""

from __future__ import annotations

from sparsesearch.analysis.describe_front import describe_front
from sparsesearch.analysis.front_description import FrontDescription, FrontPoint, FrontSeries
from sparsesearch.analysis.view import StudyView
from sparsesearch.papers.overlay import PaperOverlay
from sparsesearch.report.chart import HALF, WIDE, Chart, Shape, legend, responsive

BASELINE_SHAPES: tuple[Shape, ...] = ("square", "diamond", "up", "down", "cross")


def front_charts(view: StudyView, paper: PaperOverlay | None = None) -> str:
    """Accuracy against multiply-adds and, where latencies are known, against milliseconds.

    Args:
        view: The study.
        paper: A paper's schedules to draw over the first.
    """
    by_macs = describe_front(view, axis="macs", paper=paper)
    by_ms = describe_front(view, axis="ms")
    if not by_ms.points:
        return _front(by_macs, wide=WIDE) + _legend(by_macs)
    pair = f"<div>{_front(by_macs, wide=HALF)}</div><div>{_front(by_ms, wide=HALF)}</div>"
    return f'<div class="pair">{pair}</div>{_legend(by_macs)}'


def _front(front: FrontDescription, *, wide: int) -> str:
    def draw(width: int) -> str:
        height = 400 if width == WIDE else 320 if width == HALF else 270
        label = f"{front.metric.title} against {front.x_title}, {len(front.points)} schedules"
        xs = [point.x for point in front.points] + [mark.x for mark in front.paper]
        ys = [point.y for point in front.points] + [mark.y for mark in front.paper if mark.y is not None]
        xs += [] if front.limit is None else [front.limit]
        ys += [point.y for point in (front.dense, front.trained_dense) if point is not None]
        chart = Chart.over(xs, ys, width=width, height=height, label=label)
        chart.axes(front.x_title, front.metric.title)
        if front.limit is not None:
            chart.limit(front.limit, "budget", text="budget")
        if front.trained_dense is not None:
            chart.level(front.trained_dense.y, "dense thin")
        if front.dense is not None:
            chart.level(front.dense.y, "dense", text=front.dense_text)
        for point in (point for series in front.series for point in series.barred):
            chart.error(point.position, point.bar or 0.0)
        for series in front.series:
            if series.kind != "dense":  # a line marks its accuracy: its cost would widen the cost axis
                _draw(chart, series)
        for mark in front.paper:
            if mark.y is None:
                chart.foot(mark.x, "paper", hint=mark.hint)
            else:
                chart.marks([(mark.x, mark.y)], "paper", shape="ring", size=5.5, hints=[mark.hint])
        return chart.svg()

    return responsive(draw, wide=wide)


def _draw(chart: Chart, series: FrontSeries) -> None:
    style, shape, size = _look(series)
    is_baseline = series.kind == "handcrafted"
    chart.curve([point.position for point in series.line], style, steps=True, dashed=is_baseline)
    chart.marks(
        [point.position for point in series.points],
        style,
        shape=shape,
        size=size,
        hints=[hint(p) for p in series.points],
    )


def _look(series: FrontSeries) -> tuple[str, Shape, float]:
    """Style, shape and size of the marks of a series."""
    match series.kind:
        case "searched":
            return "search pale", "dot", 4.0
        case "handcrafted":
            return "baseline", BASELINE_SHAPES[series.index % len(BASELINE_SHAPES)], 4.5
        case "front":
            return "search", "ring", 5.5
        case "best":
            return "baseline" if series.points[0].is_handcrafted else "search", "star", 5.5
        case "dense":
            return "dense", "cross", 4.5


def hint(point: FrontPoint) -> str:
    """The tooltip of a marker."""
    return "\n".join([*point.hint, point.schedule])


def _legend(front: FrontDescription) -> str:
    entries = [(series.name, *_look(series)[:2]) for series in front.series if series.kind != "dense"]
    paper: list[tuple[str, str, Shape]] = [] if front.paper_name is None else [(front.paper_name, "paper", "ring")]
    return legend([*entries, *paper])
