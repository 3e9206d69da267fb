"""Latencies of a dense and a sparse model as a figure."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sparsesearch.latency.bench.comparison import Comparison
from sparsesearch.study.latency_record import Latency
from sparsesearch.visualize.save_figure import save_figure

_DENSE, _SPARSE = "0.45", "tab:blue"
_WIDTH = 0.38


def save_comparison(found: Comparison, path: Path, *, title: str, note: str) -> None:
    """Draw throughput and speed-up by batch size.

    Args:
        found: The measured comparison.
        path: Output PNG file.
        title: Figure title.
        note: Measurement conditions, shown below the plots.
    """
    figure = Figure(figsize=(9.5, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _throughput(left, found)
    _speed_up(right, found)
    figure.suptitle(title, fontsize=11)
    figure.supxlabel(note, fontsize=7.5, color="0.35")
    save_figure(figure, path)


def _throughput(axes: Axes, found: Comparison) -> None:
    """Bars of the medians, with whiskers from the 10th to the 90th percentile of the runs."""
    for side, (name, color) in enumerate((("dense", _DENSE), ("sparse", _SPARSE))):
        latencies: list[Latency] = [getattr(batch, name) for batch in found.batches]
        sizes = [batch.batch_size for batch in found.batches]
        heights = [1e3 * size / latency.median_ms for size, latency in zip(sizes, latencies, strict=True)]
        low = [1e3 * size / latency.p90_ms for size, latency in zip(sizes, latencies, strict=True)]
        high = [1e3 * size / latency.p10_ms for size, latency in zip(sizes, latencies, strict=True)]
        below = [height - bottom for height, bottom in zip(heights, low, strict=True)]
        above = [top - height for height, top in zip(heights, high, strict=True)]
        centers = [index + (side - 0.5) * _WIDTH for index in range(len(sizes))]
        axes.bar(centers, heights, _WIDTH, yerr=(below, above), color=color, ecolor="0.15", capsize=3, label=name)
    _by_batch(axes, found)
    axes.set_ylabel("images per second")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", fontsize=9)


def _speed_up(axes: Axes, found: Comparison) -> None:
    """Measured speed-up of each batch size, compared with the ratio of multiply-adds."""
    speed_ups = [batch.speed_up for batch in found.batches]
    colors = [_SPARSE if speed_up >= 1 else "tab:red" for speed_up in speed_ups]
    bars = axes.bar(range(len(speed_ups)), speed_ups, 0.6, color=colors)
    axes.bar_label(bars, [f"{speed_up:.2f}x" for speed_up in speed_ups], padding=2, fontsize=9)
    axes.axhline(1, color=_DENSE, linestyle="--", linewidth=1.2, label="dense")
    axes.axhline(found.macs_ratio, color="tab:green", linewidth=1.5, label=f"multiply-adds: {found.macs_ratio:.2f}x")
    _by_batch(axes, found)
    axes.set_ylabel("speed-up over dense")
    axes.set_ylim(0, 1.28 * max(found.macs_ratio, *speed_ups))
    axes.legend(loc="upper left", fontsize=9, ncols=2)


def _by_batch(axes: Axes, found: Comparison) -> None:
    labels = [f"{batch.batch_size}{' (busy)' if batch.is_busy else ''}" for batch in found.batches]
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlabel("batch size")
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
