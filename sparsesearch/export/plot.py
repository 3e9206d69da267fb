"""The Pareto front as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sparsesearch.search.results import StudyFront, cost_along
from sparsesearch.trial import Axis, Origin, Trial

_UNITS: dict[Axis, str] = {"macs": "GMACs", "ms": "ms"}
_LABELS: dict[Axis, str] = {
    "macs": "cost of one image, GMACs (10$^9$ multiply-adds)",
    "ms": "latency of one call, ms (measured where confirmed, else predicted)",
}
_BASELINE_MARKERS = ("s", "D", "^", "v")


def save_front(front: StudyFront, path: Path, *, title: str, limit: float | None, note: str | None = None) -> None:
    """Draw accuracy against multiply-adds or milliseconds: candidates, front, hand baselines, dense model.

    Args:
        front: What to draw.
        path: Target PNG.
        title: Above the picture.
        limit: The budget along the front's axis, drawn as a vertical line, or None.
        note: A warning below the title, or None.
    """
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    searched = [trial for trial in front.candidates if trial.origin is Origin.SEARCH]
    axes.scatter(*_coordinates(searched, front.axis), color="tab:blue", alpha=0.55, label="searched", zorder=3)
    labels = sorted({trial.label for trial in front.candidates if trial.origin is Origin.BASELINE})
    for marker, label in zip(_BASELINE_MARKERS, labels, strict=False):
        trials = [trial for trial in front.candidates if trial.label == label]
        axes.scatter(
            *_coordinates(trials, front.axis), marker=marker, color="tab:orange", label=f"by hand: {label}", zorder=3
        )
    axes.step(
        *_coordinates(front.points, front.axis),
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
            f"dense {accuracy:.1f} % at {_scaled(dense, front.axis):.3g} {_UNITS[front.axis]}",
            (0.99, accuracy),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            color="0.3",
        )
    if limit is not None:
        budget = limit / 1e9 if front.axis == "macs" else limit
        axes.axvline(budget, color="tab:red", linewidth=1, alpha=0.6, label="budget")
    axes.set_xlabel(_LABELS[front.axis])
    fidelity = front.fidelity.value if front.fidelity else "nothing"
    axes.set_ylabel(f"validation accuracy, % ({fidelity})")
    axes.set_title(title if note is None else f"{title}\n{note}", fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _coordinates(trials: Sequence[Trial], axis: Axis) -> tuple[list[float], list[float]]:
    return [_scaled(t, axis) for t in trials], [100 * t.metrics["val_top1"] for t in trials]


def _scaled(trial: Trial, axis: Axis) -> float:
    cost = cost_along(trial, axis)
    return cost / 1e9 if axis == "macs" else cost
