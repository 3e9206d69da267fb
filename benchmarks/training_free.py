r"""Searched schedules against published ones without any training: test split, several seeds, paired intervals.

OMP_NUM_THREADS=1 python benchmarks/training_free.py --home /tmp/training_free \
    --out docs/results/training_free.jsonl

Settled before the first run (docs/benchmarks.md#searching-without-training): three bundled tasks, 35, 50 and 65 % of
the dense cost, seeds 100 to 104, 120 schedules evaluated for each. A seed has one dense training for all budgets;
nothing else is trained. The searched schedule and the best published one are those with the best accuracy on the
validation images that did not rank them; the test split is opened once for each. Intervals: paired bootstrap over the
397 test digits, seeds pooled.

Each cell is a line of the output, written when it is finished; cells that are there are not repeated, so that a run
that was ended goes on, and several run next to each other (`--tasks`, `--seeds`). `--table` prints what is there.
"""

from __future__ import annotations

from typing import Any

from settled import Key, cell, run_cells

from sparsesearch.settings import Settings
from sparsesearch.study.trial import Fidelity

BUDGETS = (0.35, 0.50, 0.65)
SEEDS = (100, 101, 102, 103, 104)
EVALUATIONS = 120


def run(key: Key, settings: Settings) -> dict[str, Any]:
    """One cell of the table."""
    document = key.document("free", {"strategy": "training-free", "evaluations": EVALUATIONS})
    return cell(key, document, settings, judged_at=Fidelity.RESCORED)


if __name__ == "__main__":
    run_cells(__doc__, run, backbones=("deit_pico", "deit_nano"), budgets=BUDGETS, seeds=SEEDS)
