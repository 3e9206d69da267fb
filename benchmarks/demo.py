r"""What `make demo` finds with several seeds: searched schedules against hand-crafted ones, and how long it takes.

python benchmarks/demo.py --home /tmp/demo --out docs/results/demo.jsonl

Each seed runs the command of `make demo` with a new home, on Ray and with MLflow as it does. Each hand-crafted schedule
is then compared with the best searched schedule that costs no more, on the 3,600 validation canvases that ranked
neither: worse if the paired 95 % interval is below 0. Pooled: the mean of these differences, with a
bootstrap over the 300 validation digits.

Each seed is a line of the output, written when it has ended; those that are there are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from embedded_task import interval

from sparsesearch.analysis.pairs import paired_difference
from sparsesearch.data.digits_task import DigitsTask
from sparsesearch.store.sql import open_store
from sparsesearch.study.trial import Fidelity, Origin

COMMAND = "run --backbone deit_pico --budget 25%:60% --strategy training-free --evaluations 80"
SEEDS = (0, 1, 2, 3, 4)


def one_run(seed: int, home: Path) -> dict[str, Any]:
    """Run the demo with a seed and compare its schedules."""
    url = f"sqlite:///{home}/studies.db"
    home.mkdir(parents=True, exist_ok=True)
    began = time.time()
    command = [sys.executable, "-m", "sparsesearch", *COMMAND.split(), "--seed", str(seed)]
    with (home / "demo.log").open("w", encoding="utf-8") as log:
        environ = {**os.environ, "SPARSESEARCH_HOME": str(home), "SPARSESEARCH_DATABASE_URL": url}
        subprocess.run([*command, "--output", str(home / "demo")], env=environ, stdout=log, check=True)
    return {"seed": seed, "seconds": time.time() - began, **compared(url)}


def compared(url: str) -> dict[str, Any]:
    """Compare each hand-crafted schedule of a database with one study with the best searched one of no higher cost."""
    store = open_store(url)
    (name,) = store.studies()
    trials = store.trials(name)
    judged = [trial for trial in trials if trial.fidelity is Fidelity.RESCORED and trial.metrics]
    hits = store.hits(name, {trial.number for trial in judged})
    dense = next(trial for trial in trials if trial.fidelity is Fidelity.DENSE)
    searched = [trial for trial in judged if trial.origin is Origin.SEARCH]
    pairs, flags = [], []
    for baseline in (trial for trial in judged if trial.origin is Origin.BASELINE):
        able = [trial for trial in searched if trial.cost.macs <= baseline.cost.macs]
        best = max(able, key=lambda trial: trial.metrics["val_top1"])
        difference = paired_difference(hits[best.number], hits[baseline.number])
        flags.append(np.array(hits[best.number].flags(), dtype=float) - hits[baseline.number].flags())
        pairs.append(
            {
                "baseline": baseline.label,
                "of_dense": baseline.cost.macs / dense.cost.macs,
                "baseline_top1": baseline.metrics["val_top1"],
                "searched_of_dense": best.cost.macs / dense.cost.macs,
                "searched_top1": best.metrics["val_top1"],
                "interval": [difference.low, difference.high],
            }
        )
    sources = DigitsTask(image_size=32, in_chans=1).val_sources("confirm")
    return {"pairs": pairs, "pooled": interval(np.array(flags), sources)}


def table(runs: list[dict[str, Any]]) -> str:
    """The table in Markdown."""
    lines = [
        "| seed | minutes | hand-crafted schedules | worse than | better than | pooled difference, points |",
        "|---|---|---|---|---|---|",
    ]
    for run in sorted(runs, key=lambda one: one["seed"]):
        worse = sum(pair["interval"][1] < 0 for pair in run["pairs"])
        better = sum(pair["interval"][0] > 0 for pair in run["pairs"])
        mean, low, high = (100 * value for value in run["pooled"])
        pooled = f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"
        lines.append(
            f"| {run['seed']} | {run['seconds'] / 60:.1f} | {len(run['pairs'])} | {worse} | {better} | {pooled} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the seeds that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="folder for a home of each seed")
    parser.add_argument("--out", type=Path, required=True, help="a JSON line for each seed")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    options = parser.parse_args()
    lines = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    runs = [json.loads(line) for line in lines]
    for seed in sorted(set(options.seeds) - {run["seed"] for run in runs}):
        runs.append(one_run(seed, options.home.resolve() / f"seed-{seed}"))
        with options.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(runs[-1]) + "\n")
    print(table(runs))


if __name__ == "__main__":
    main()
