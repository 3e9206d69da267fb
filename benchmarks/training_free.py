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

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embedded_task import best, interval, search_document

from sparsesearch.artifacts.model_reference import ModelReference
from sparsesearch.artifacts.trained import model_of, trained_tensors
from sparsesearch.data.digits_task import DigitsTest
from sparsesearch.data.test_split import open_test
from sparsesearch.evaluate.opening import open_context
from sparsesearch.schedule import Schedule
from sparsesearch.settings import Settings
from sparsesearch.store.sql import open_store
from sparsesearch.study.hits import Hits
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import Fidelity, Origin, Trial
from sparsesearch.training.checkpoints import CheckpointFolder
from sparsesearch.training.scoring import EVAL_BATCH, evaluate_model

TASKS = ("digits", "digits:hard", "digits:four")
BUDGETS = (0.35, 0.50, 0.65)
SEEDS = (100, 101, 102, 103, 104)
EVALUATIONS = 120
SEARCHED, RIVAL = "searched", "best published"


def study(task: str, seed: int, budget: float) -> dict[str, object]:
    """The document of a study."""
    return {
        "name": f"free-{task.replace(':', '-')}-{seed}-{budget:.0%}".replace("%", "p"),
        "backbone": "deit_pico",
        "budget": {"unit": "fraction", "high": budget},
        "data": {"source": task},
        "seed": seed,
        "precision": "float32",
        "dispatcher": "inline",
        "fidelity": {"strategy": "training-free", "evaluations": EVALUATIONS},
    }


def tested(spec: StudySpec, trials: list[Trial], trial: Trial, settings: Settings) -> Hits:
    """Which test images the dense weights with the schedule of a trial classify correctly."""
    assert spec.resolved is not None
    folder = CheckpointFolder(settings.storage, spec.name, open_store(settings.database_url).uid(spec.name))
    tensors = trained_tensors(trial, trials, folder)
    assert tensors is not None
    resolved = spec.resolved
    size = resolved.geometry.image_size
    reference = ModelReference(spec.backbone, trial.schedule, resolved.num_classes, resolved.in_chans, size)
    task = open_test(spec.data, backbone=spec.backbone)
    batches = task.test(batch_size=EVAL_BATCH)
    found = evaluate_model(model_of(reference, tensors), batches, arithmetic=open_context(spec).arithmetic)
    return found.hits("test")


def cell(task: str, seed: int, budget: float, settings: Settings) -> dict[str, Any]:
    """One cell of the table: the schedules, their accuracies, and which test images they classify correctly."""
    spec, trials = search_document(settings, study(task, seed, budget))
    evaluated = [trial for trial in trials if trial.fidelity is Fidelity.RESCORED and trial.metrics]
    of_rivals = [trial for trial in evaluated if trial.origin is Origin.BASELINE]
    dense = next(trial for trial in trials if trial.fidelity is Fidelity.DENSE)
    assert spec.resolved is not None
    geometry = spec.resolved.geometry
    rows = {}
    chosen = {"dense": dense, RIVAL: best(of_rivals), SEARCHED: best([t for t in evaluated if t not in of_rivals])}
    for name, trial in chosen.items():
        hits = tested(spec, trials, trial, settings)
        rows[name] = {
            "label": trial.label,
            "schedule": "all" if trial.schedule == Schedule() else trial.schedule.describe(geometry),
            "macs": trial.cost.macs,
            "val_top1": trial.metrics["val_top1"],
            "test_top1": hits.num_correct / hits.count,
            "hits": hits.model_dump(),
        }
    rivals = {trial.label: trial.metrics["val_top1"] for trial in of_rivals}
    return {"task": task, "seed": seed, "budget": budget, "rows": rows, "val_top1_of_published": rivals}


def table(cells: list[dict[str, Any]]) -> str:
    """The table in Markdown."""
    test = DigitsTest(image_size=32, in_chans=1)
    sources = test.test_sources()
    lines = [
        "| task | budget | seeds | dense, % | best published, % | searched, % | searched minus published, points |",
        "|---|---|---|---|---|---|---|",
    ]
    for task in TASKS:
        for budget in BUDGETS:
            own = [one for one in cells if (one["task"], one["budget"]) == (task, budget)]
            if not own:
                continue
            flags = {
                name: np.array([Hits.model_validate(one["rows"][name]["hits"]).flags() for one in own], dtype=float)
                for name in ("dense", RIVAL, SEARCHED)
            }
            mean, low, high = interval(flags[SEARCHED] - flags[RIVAL], sources)
            shown = " | ".join(f"{100 * flags[name].mean():.2f}" for name in ("dense", RIVAL, SEARCHED))
            gain = f"{100 * mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
            lines.append(f"| {task} | {budget:.0%} | {len(own)} | {shown} | {gain} |")
    return "\n".join(lines)


def main() -> None:
    """Run the cells that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="folder for studies and trainings (resumable)")
    parser.add_argument("--out", type=Path, required=True, help="a JSON line for each cell")
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    options = parser.parse_args()
    lines = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    cells = [json.loads(line) for line in lines]
    done = {(one["task"], one["seed"], one["budget"]) for one in cells}
    if not options.table:
        settings = Settings(home=options.home, database_url=f"sqlite:///{options.home / 'studies.db'}")
        for key in [(t, s, b) for s in options.seeds for t in options.tasks for b in BUDGETS]:
            if key in done:
                continue
            found = cell(*key, settings)
            cells.append(found)
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            tests = {name: row["test_top1"] for name, row in found["rows"].items()}
            print(*key, *(f"{name} {100 * top1:.2f}" for name, top1 in tests.items()), flush=True)
    print(table(cells))


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
