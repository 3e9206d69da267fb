"""The picture in README: fronts of one seed of `equal_time.py`, searched and hand-crafted.

python benchmarks/front_picture.py docs/results/equal_time.json docs/images/front.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

SHOWN = {
    "supernet": ("searched", "o", "tab:blue"),
    "rho at 2,4,6, longer": ("hand-crafted, blocks 2, 4, 6", "s", "tab:orange"),
    "rho at 1,3,5, longer": ("hand-crafted, blocks 1, 3, 5", "^", "tab:green"),
}
"""Which methods are shown, with their name, symbol and colour."""


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="JSON written by equal_time.py")
    parser.add_argument("picture", type=Path, help="PNG to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = {
        row["rival"]: row for row in json.loads(arguments.results.read_text("utf-8")) if row["seed"] == arguments.seed
    }
    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for method, (name, symbol, color) in SHOWN.items():
        points = sorted((100 * point["share"], 100 * point["test_top1"]) for point in rows[method]["front"])
        axes.plot(*zip(*points, strict=True), marker=symbol, color=color, linewidth=1, label=name)
    axes.set_xlabel("multiply-adds, % of the dense model")
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right")
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.picture, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
