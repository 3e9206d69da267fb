"""Our multiply-adds next to those of the papers: measured with the counter of their published code, and as published.

python benchmarks/published_counts.py

The published code also counts 5 for each element of a layer norm; our count does not include them. tests/parity checks
that both are otherwise equal to the integer.
"""

from __future__ import annotations

import json
from pathlib import Path

from sparsesearch.backbones.paper_backbones import family_geometry
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.papers.results import paper_family
from sparsesearch.papers.schedules import paper_schedule

RATES = ("0.5", "0.6", "0.7", "0.8", "0.9")
REFERENCE = Path(__file__).parents[1] / "tests" / "parity" / "gflops.json"


def main() -> None:
    """Print both tables as Markdown."""
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))
    shapes = {name: family_geometry(paper_family(name)) for name in reference["models"]}

    def ours(name: str, rho: float) -> float:
        return AnalyticCost().estimate(shapes[name], paper_schedule(shapes[name], rho)).macs / 1e9

    print(f"| model | {' | '.join(f'rho {rate}' for rate in RATES)} |")
    print(f"|---|{'---|' * len(RATES)}")
    for name, row in reference["models"].items():
        cells = []
        for rate in RATES:
            mine, theirs = ours(name, float(rate)), row["sparse"][rate]["gflops"]
            cells.append(f"{mine:.3f} / {theirs:.3f} ({mine / theirs - 1:+.2%})")
        print(f"| {name} | {' | '.join(cells)} |")
    print("\n| published model | published | its code's counter | ours |\n|---|---|---|---|")
    for row in reference["published"]:
        mine = ours(row["model"], row["rho"])
        print(f"| {row['name']} | {row['published_gflops']} | {row['measured_gflops']:.3f} | {mine:.3f} |")


if __name__ == "__main__":
    main()
