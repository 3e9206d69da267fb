"""What benchmarks of settled runs share: cells that are written as they end, test accuracies, tables with intervals.

A cell is one study: a backbone, a task, a seed and a budget. Its searched schedule and its best published one are those
with the best accuracy on the validation images that did not rank them; the test split is opened once for each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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
from sparsesearch.study.trial import TRAINED_DENSE, Fidelity, Origin, Trial
from sparsesearch.training.checkpoints import CheckpointFolder
from sparsesearch.training.scoring import EVAL_BATCH, evaluate_model

TASKS = ("digits", "digits:hard", "digits:four")
DENSE, RIVAL, SEARCHED = "dense", "best published", "searched"


@dataclass(frozen=True)
class Key:
    """What a cell is about.

    Attributes:
        backbone: Name of a bundled backbone.
        task: Name of a bundled task.
        seed: Seed of the study.
        budget: Fraction of the dense cost.
    """

    backbone: str
    task: str
    seed: int
    budget: float

    @classmethod
    def of(cls, cell: dict[str, Any]) -> Key:
        """The key of a stored cell."""
        return cls(cell.get("backbone", "deit_pico"), cell["task"], cell["seed"], cell["budget"])

    def document(self, prefix: str, fidelity: dict[str, object]) -> dict[str, object]:
        """The document of its study."""
        words = [prefix, *([] if self.backbone == "deit_pico" else [self.backbone]), self.task, str(self.seed)]
        return {
            "name": "-".join([*words, f"{self.budget:.0%}"]).replace(":", "-").replace("%", "p"),
            "backbone": self.backbone,
            "budget": {"unit": "fraction", "high": self.budget},
            "data": {"source": self.task},
            "seed": self.seed,
            "precision": "float32",
            "dispatcher": "inline",
            "fidelity": fidelity,
        }


def tested(spec: StudySpec, trials: list[Trial], trial: Trial, settings: Settings) -> Hits:
    """Which test images the model of a trial classifies correctly."""
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


def cell(key: Key, document: dict[str, object], settings: Settings, *, judged_at: Fidelity) -> dict[str, Any]:
    """Run the study of a cell: the schedules, their accuracies, and which test images they classify correctly.

    Args:
        key: What the cell is about.
        document: Its study.
        settings: Where studies and trainings are.
        judged_at: Fidelity of the trials that are compared.
    """
    spec, trials = search_document(settings, document)
    judged = [trial for trial in trials if trial.fidelity is judged_at and trial.metrics]
    of_rivals = [trial for trial in judged if trial.origin is Origin.BASELINE]
    found = [trial for trial in judged if trial.origin is Origin.SEARCH]
    dense = next(trial for trial in trials if trial.fidelity is Fidelity.DENSE)
    chosen = {DENSE: dense, RIVAL: best(of_rivals), SEARCHED: best(found)}
    chosen |= {trial.label: trial for trial in judged if trial.label == TRAINED_DENSE}
    assert spec.resolved is not None
    rows = {}
    for name, trial in chosen.items():
        hits = tested(spec, trials, trial, settings)
        is_dense = trial.schedule == Schedule()
        rows[name] = {
            "label": trial.label,
            "schedule": "all" if is_dense else trial.schedule.describe(spec.resolved.geometry),
            "macs": trial.cost.macs,
            "val_top1": trial.metrics["val_top1"],
            "test_top1": hits.num_correct / hits.count,
            "hits": hits.model_dump(),
        }
    rivals = {trial.label: trial.metrics["val_top1"] for trial in of_rivals}
    return {**vars(key), "rows": rows, "val_top1_of_published": rivals}


def table(cells: list[dict[str, Any]]) -> str:
    """The table in Markdown, one line for each backbone, task and budget."""
    sources = DigitsTest(image_size=32, in_chans=1).test_sources()
    lines = [
        "| backbone | task | budget | seeds | dense, % | best published, % | searched, % | difference, points |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for one in sorted(cells, key=lambda one: (Key.of(one).backbone, TASKS.index(one["task"]), one["budget"])):
        key = Key.of(one)
        groups.setdefault((key.backbone, key.task, key.budget), []).append(one)
    for (backbone, task, budget), own in groups.items():
        dense = TRAINED_DENSE if TRAINED_DENSE in own[0]["rows"] else DENSE
        flags = {
            name: np.array([Hits.model_validate(one["rows"][name]["hits"]).flags() for one in own], dtype=float)
            for name in (dense, RIVAL, SEARCHED)
        }
        mean, low, high = interval(flags[SEARCHED] - flags[RIVAL], sources)
        shown = " | ".join(f"{100 * values.mean():.2f}" for values in flags.values())
        gain = f"{100 * mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
        lines.append(f"| {backbone} | {task} | {budget:.0%} | {len(own)} | {shown} | {gain} |")
    return "\n".join(lines)


def run_cells(
    description: str,
    run: Callable[[Key, Settings], dict[str, Any]],
    *,
    backbones: Sequence[str],
    budgets: Sequence[float],
    seeds: Sequence[int],
) -> None:
    """Run the cells that are missing and print the table; the command line of such a benchmark."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="folder for studies and trainings (resumable)")
    parser.add_argument("--out", type=Path, required=True, help="a JSON line for each cell")
    parser.add_argument("--backbones", nargs="+", default=backbones)
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--budgets", nargs="+", type=float, default=budgets)
    parser.add_argument("--seeds", nargs="+", type=int, default=seeds)
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    options = parser.parse_args()
    torch.manual_seed(0)
    lines = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    cells = [json.loads(line) for line in lines]
    if not options.table:
        settings = Settings(home=options.home, database_url=f"sqlite:///{options.home / 'studies.db'}")
        done = {Key.of(one) for one in cells}
        for key in _keys(options):
            if key not in done:
                cells.append(run(key, settings))
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(cells[-1]) + "\n")
                tests = {name: row["test_top1"] for name, row in cells[-1]["rows"].items()}
                print(*vars(key).values(), *(f"{name} {100 * top1:.2f}" for name, top1 in tests.items()), flush=True)
    print(table(cells))


def _keys(options: argparse.Namespace) -> Iterable[Key]:
    """All cells of a seed before those of the next one."""
    for seed in options.seeds:
        for backbone in options.backbones:
            for task in options.tasks:
                for budget in options.budgets:
                    yield Key(backbone, task, seed, budget)
