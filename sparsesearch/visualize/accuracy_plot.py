"""Accuracies of several models with their intervals, over their speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Bar = tuple[str, float, tuple[float, float], Mapping[int, float]]
"""Name, accuracy, its interval, and milliseconds by batch size."""


def accuracy_figure(bars: Sequence[Bar]) -> Figure:
    """Draw accuracies with their 95 % intervals, and images per second by batch size where models were timed.

    Args:
        bars: The models, at least one.
    """
    is_timed = any(ms for *_, ms in bars)
    figure = Figure(figsize=(9.5 if is_timed else 5.0, 1.4 + 0.5 * len(bars)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2 if is_timed else 1, squeeze=False, sharey=True)[0]
    for row, (_, top1, (low, high), _) in enumerate(bars):
        axes[0].errorbar(
            100 * top1, row, xerr=[[100 * (top1 - low)], [100 * (high - top1)]], fmt="o", color="tab:blue", capsize=4
        )
    axes[0].set_yticks(range(len(bars)), [name for name, *_ in bars])
    axes[0].set_xlabel("test accuracy, %, with 95 % interval")
    axes[0].invert_yaxis()
    if is_timed:
        sizes = sorted({batch for *_, ms in bars for batch in ms})
        height = 0.8 / len(sizes)
        for number, batch in enumerate(sizes):
            rows = [row + (number - 0.5 * (len(sizes) - 1)) * height for row in range(len(bars))]
            rates = [1e3 * batch / ms[batch] for *_, ms in bars]
            axes[1].barh(rows, rates, height=height, label=f"batch size {batch}")
        axes[1].set_xlabel("images per second")
        axes[1].legend(fontsize=8)
    return figure
