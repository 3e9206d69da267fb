"""The Pareto front as a figure."""

from __future__ import annotations

import io
from pathlib import Path
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sparsesearch.analysis.front_description import FrontDescription, FrontSeries
from sparsesearch.visualize.save_figure import save_figure

_BASELINE_MARKERS = ("s", "D", "^", "v", "P", "X", "<", ">")
_FEW_FAMILIES = 3  # of hand-crafted schedules, whose legend fits into a corner


def save_front(front: FrontDescription, path: Path) -> None:
    """Draw accuracy against multiply-adds or milliseconds and write it to a file."""
    save_figure(front_figure(front), path)


class FrontFigure(Figure):
    """A figure that notebooks display, whichever backend matplotlib uses."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


def front_figure(front: FrontDescription) -> FrontFigure:
    """Draw accuracy against multiply-adds or milliseconds: candidates, front, hand-crafted baselines, dense model."""
    figure = FrontFigure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for series in front.series:
        _draw(axes, series)
    barred = [point for series in front.series for point in series.barred]
    if barred:
        xs, ys = [point.x for point in barred], [point.y for point in barred]
        bars = [point.bar or 0.0 for point in barred]
        label = fill(f"bars: {front.bars}", 36)
        axes.errorbar(xs, ys, yerr=bars, fmt="none", ecolor="0.35", elinewidth=1, capsize=2.5, zorder=2.5, label=label)
    if front.trained_dense is not None:
        axes.axhline(front.trained_dense.y, color="0.4", linestyle=":", linewidth=1, label="dense, same training")
    if front.dense is not None:
        axes.axhline(front.dense.y, color="0.4", linestyle="--", linewidth=1)
        position = (0.99, front.dense.y)
        along = ("axes fraction", "data")
        axes.annotate(front.dense_text, position, xycoords=along, ha="right", va="bottom", color="0.3")
    if front.limit is not None:
        axes.axvline(front.limit, color="tab:red", linewidth=1, alpha=0.6, label="budget")
    axes.set_xlabel(front.x_title)
    axes.set_ylabel(f"{front.metric.title} ({front.fidelity.value if front.fidelity else 'no evaluations'})")
    axes.set_title("\n".join([front.title, *front.warnings, *([front.caveat] if front.caveat else [])]), fontsize=11)
    axes.grid(alpha=0.25)
    num_families = sum(series.kind == "handcrafted" for series in front.series)
    if front.paper_name is not None:
        _draw_paper(axes, front)
        axes.margins(y=0.09)
    if front.paper_name is None and num_families <= _FEW_FAMILIES:
        axes.legend(loc="lower right", fontsize=9)
    else:  # the legend is larger, and may not fit into a corner
        figure.legend(loc="outside lower center", fontsize=8, ncols=3)
    return figure


def _draw(axes: Axes, series: FrontSeries) -> None:
    if series.line:
        color = "tab:orange" if series.kind == "handcrafted" else "tab:blue"
        style = "--" if series.kind == "handcrafted" else "-"
        xs, ys = [point.x for point in series.line], [point.y for point in series.line]
        axes.step(xs, ys, where="post", color=color, linestyle=style, linewidth=1.3, zorder=2)
    match series.kind:
        case "searched":
            axes.scatter(series.xs, series.ys, color="tab:blue", alpha=0.55, label=series.name, zorder=3)
        case "handcrafted":
            marker = _BASELINE_MARKERS[series.index % len(_BASELINE_MARKERS)]
            axes.scatter(series.xs, series.ys, marker=marker, color="tab:orange", label=series.name, zorder=3)
        case "front":
            axes.scatter(
                series.xs, series.ys, s=90, facecolors="none", edgecolors="tab:blue", label=series.name, zorder=4
            )
        case "best":
            color = "tab:orange" if series.points[0].is_handcrafted else "tab:blue"
            axes.scatter(series.xs, series.ys, marker="*", s=190, color=color, label=series.name, zorder=5)
        case "dense":  # a line marks its accuracy: its cost would widen the cost axis
            pass


def _draw_paper(axes: Axes, front: FrontDescription) -> None:
    """Draw published accuracies as markers, and a tick for each schedule without a published accuracy."""
    known = [(mark, mark.y) for mark in front.paper if mark.y is not None]
    xs, ys = [mark.x for mark, _ in known], [y for _, y in known]
    axes.scatter(
        xs,
        ys,
        marker="P",
        s=70,
        facecolors="none" if front.caveat else "tab:purple",
        edgecolors="tab:purple",
        label=front.paper_name,
        zorder=4,
    )
    for mark, y in known:
        axes.annotate(
            mark.label, (mark.x, y), xytext=(0, 8), textcoords="offset points", ha="center", color="tab:purple"
        )
    axes.vlines(
        [mark.x for mark in front.paper if mark.y is None],
        0,
        0.03,
        transform=axes.get_xaxis_transform(),
        color="tab:purple",
        label="cost of other rho, no published accuracy",
    )
