"""The Pareto front as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sparsesearch.search.results import StudyFront
from sparsesearch.trial import Origin, Trial

_BASELINE_MARKERS = ("s", "D", "^", "v")


def save_front(front: StudyFront, path: Path, *, title: str, budget_macs: int, note: str | None = None) -> None:
    """Draw accuracy against multiply-adds: candidates, front, hand baselines, dense model.

    Args:
        front: What to draw.
        path: Target PNG.
        title: Above the picture.
        budget_macs: Drawn as a vertical line.
        note: A warning below the title, or None.
    """
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    searched = [trial for trial in front.candidates if trial.origin is Origin.SEARCH]
    axes.scatter(*_coordinates(searched), color="tab:blue", alpha=0.55, label="searched", zorder=3)
    labels = sorted({trial.label for trial in front.candidates if trial.origin is Origin.BASELINE})
    for marker, label in zip(_BASELINE_MARKERS, labels, strict=False):
        trials = [trial for trial in front.candidates if trial.label == label]
        axes.scatter(*_coordinates(trials), marker=marker, color="tab:orange", label=f"by hand: {label}", zorder=3)
    axes.step(
        *_coordinates(front.points), where="post", color="tab:blue", linewidth=1.5, label="Pareto front", zorder=2
    )
    if front.reference is not None:
        dense = front.reference
        accuracy = 100 * dense.metrics["val_top1"]
        axes.axhline(accuracy, color="0.4", linestyle="--", linewidth=1)
        axes.annotate(
            f"dense {accuracy:.1f} % at {dense.cost.macs / 1e9:.3g} GMACs",
            (0.99, accuracy),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            color="0.3",
        )
    axes.axvline(budget_macs / 1e9, color="tab:red", linewidth=1, alpha=0.6, label="budget")
    axes.set_xlabel("cost of one image, GMACs (10$^9$ multiply-adds)")
    fidelity = front.fidelity.value if front.fidelity else "nothing"
    axes.set_ylabel(f"validation accuracy, % ({fidelity})")
    axes.set_title(title if note is None else f"{title}\n{note}", fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _coordinates(trials: Sequence[Trial]) -> tuple[list[float], list[float]]:
    return [t.cost.macs / 1e9 for t in trials], [100 * t.metrics["val_top1"] for t in trials]
