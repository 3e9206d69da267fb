r"""Searched schedules against hand-crafted ones, fine-tuned alike: test split, several seeds, paired intervals.

OMP_NUM_THREADS=1 python benchmarks/fine_tuned.py --home /tmp/fine_tuned --out docs/results/fine_tuned.jsonl

Settled before the first run (docs/benchmarks.md#fine-tuned-alike): three bundled tasks, 25, 35, 50 and 65 % of the
dense cost, seeds 200 to 204, 60 schedules evaluated on the supernet of a seed for each, five finalists. All finalists,
the hand-crafted schedules and the dense model are fine-tuned in the same way, from the same weights. What is chosen,
and how it is judged, is as in training_free.py.

    OMP_NUM_THREADS=1 python benchmarks/fine_tuned.py --home /tmp/fine_tuned --out docs/results/fine_tuned_grid.jsonl \
        --backbones swin_pico convnext_pico --budgets 0.35 0.5

is the same for fast and slow paths. Cells are resumable, as those of training_free.py.
"""

from __future__ import annotations

from typing import Any

from settled import Key, cell, run_cells

from sparsesearch.settings import Settings
from sparsesearch.study.trial import Fidelity

BUDGETS = (0.25, 0.35, 0.50, 0.65)
SEEDS = (200, 201, 202, 203, 204)


def run(key: Key, settings: Settings) -> dict[str, Any]:
    """One cell of the table."""
    document = key.document("tuned", {"evaluations": 60, "finalists": 5})
    return cell(key, document, settings, judged_at=Fidelity.FINETUNE)


if __name__ == "__main__":
    run_cells(__doc__, run, backbones=("deit_pico",), budgets=BUDGETS, seeds=SEEDS)
