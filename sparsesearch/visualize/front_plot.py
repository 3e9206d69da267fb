"""The Pareto front as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sparsesearch.analysis.study_front import StudyFront, cost_along
from sparsesearch.analysis.words import cost_axis
from sparsesearch.papers.overlay import PaperOverlay, PaperPoint
from sparsesearch.study.trial import Axis, Origin, Trial
from sparsesearch.text import macs_text, ms_text

_BASELINE_MARKERS = ("s", "D", "^", "v")


def save_front(
    front: StudyFront,
    path: Path,
    *,
    title: str,
    limit: float | None,
    note: str | None = None,
    paper: PaperOverlay | None = None,
) -> None:
    """Draw accuracy against multiply-adds or milliseconds: candidates, front, hand-crafted baselines, dense model.

    Args:
        front: The front.
        path: Output PNG file.
        title: Figure title.
        limit: The budget along the front's axis, drawn as a vertical line, or None.
        note: Warning below the title, or None.
        paper: Published schedules to draw over it. If they are of another backbone, the cost axis is in percent of the
            dense model's multiply-adds.
    """
    assert paper is None or front.axis == "macs", "published schedules have no latency"
    unit, x_title = cost_axis(front)
    is_relative = paper is not None and not paper.same_backbone and front.reference is not None
    if is_relative and front.reference is not None:
        unit, x_title = front.reference.cost.macs / 100, "cost per image, % of the dense model"
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    searched = [trial for trial in front.candidates if trial.origin is Origin.SEARCH]
    axes.scatter(*_coordinates(searched, front.axis, unit), color="tab:blue", alpha=0.55, label="searched", zorder=3)
    labels = sorted({trial.label for trial in front.candidates if trial.origin is Origin.BASELINE})
    for marker, label in zip(_BASELINE_MARKERS, labels, strict=False):
        trials = [trial for trial in front.candidates if trial.label == label]
        axes.scatter(
            *_coordinates(trials, front.axis, unit),
            marker=marker,
            color="tab:orange",
            label=f"hand-crafted: {label}",
            zorder=3,
        )
    axes.step(
        *_coordinates(front.points, front.axis, unit),
        where="post",
        color="tab:blue",
        linewidth=1.5,
        label="Pareto front",
        zorder=2,
    )
    if front.reference is not None:
        dense = front.reference
        accuracy = 100 * dense.metrics["val_top1"]
        axes.axhline(accuracy, color="0.4", linestyle="--", linewidth=1)
        axes.annotate(
            f"dense {accuracy:.1f} % at {_cost_text(dense, front.axis)}",
            (0.99, accuracy),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            color="0.3",
        )
    if limit is not None:
        axes.axvline(limit / unit, color="tab:red", linewidth=1, alpha=0.6, label="budget")
    if paper is not None:
        _draw_paper(axes, paper, unit)
    axes.set_xlabel(x_title)
    fidelity = front.fidelity.value if front.fidelity else "no evaluations"
    axes.set_ylabel(f"validation accuracy, % ({fidelity})")
    axes.set_title(title if note is None else f"{title}\n{note}", fontsize=11)
    axes.grid(alpha=0.25)
    if paper is None:
        axes.legend(loc="lower right", fontsize=9)
    else:  # the legend is larger, and may not fit into a corner
        axes.margins(y=0.09)
        figure.legend(loc="outside lower center", fontsize=9, ncols=3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _draw_paper(axes: Axes, paper: PaperOverlay, unit: float) -> None:
    """Draw published accuracies as markers, and a tick for each schedule without a published accuracy."""
    known = [(point, point.published) for point in paper.points if point.published is not None]
    unknown = [_paper_cost(point, paper, unit) for point in paper.points if point.published is None]
    mark = "published, not comparable" if paper.caveat else "published"
    axes.scatter(
        [_paper_cost(point, paper, unit) for point, _ in known],
        [100 * published.top1 for _, published in known],
        marker="P",
        s=70,
        facecolors="none" if paper.caveat else "tab:purple",
        edgecolors="tab:purple",
        label=f"{paper.family.title} ({mark})",
        zorder=4,
    )
    for point, published in known:
        position = (_paper_cost(point, paper, unit), 100 * published.top1)
        axes.annotate(
            f"rho {point.rho:g}", position, xytext=(0, 8), textcoords="offset points", ha="center", color="tab:purple"
        )
    axes.vlines(
        unknown,
        0,
        0.03,
        transform=axes.get_xaxis_transform(),
        color="tab:purple",
        label="cost of other rho, no published accuracy",
    )


def _paper_cost(point: PaperPoint, paper: PaperOverlay, unit: float) -> float:
    return point.macs / unit if paper.same_backbone else 100 * point.share


def _coordinates(trials: Sequence[Trial], axis: Axis, unit: float) -> tuple[list[float], list[float]]:
    return [cost_along(t, axis) / unit for t in trials], [100 * t.metrics["val_top1"] for t in trials]


def _cost_text(trial: Trial, axis: Axis) -> str:
    cost = cost_along(trial, axis)
    return macs_text(cost) if axis == "macs" else ms_text(cost)
