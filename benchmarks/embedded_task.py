r"""Searched schedules against hand-crafted baselines on the bundled task: test split, several seeds, paired intervals.

OMP_NUM_THREADS=1 python benchmarks/embedded_task.py --home /tmp/embedded --out docs/results/embedded_task.json
OMP_NUM_THREADS=1 python benchmarks/embedded_task.py --data digits:hard --home /tmp/embedded \
    --out docs/results/embedded_hard.json

Finished studies are not repeated, so that seeds can run in parallel (`--seeds 1 --first-seed K`, one process per core)
and be pooled by the command above.

For each seed there is one dense and one supernet training, shared by a search at each budget; the finalists and both
hand-crafted baselines are fine-tuned in the same way. The searched schedule is the one with the best validation
accuracy; the test split is opened once, at the end. `best hand` is, in each seed, the hand-crafted baseline with the
better validation accuracy. If no hand-crafted baseline can meet a small budget, the searched schedule is compared with
the best one at the next whole percent of the dense cost that a baseline can meet. Intervals: paired bootstrap over the
397 test digits (canvases of one digit are not independent), seeds pooled.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sparsesearch.analysis.study_front import study_front
from sparsesearch.app.complete import complete
from sparsesearch.app.resolve import resolve
from sparsesearch.app.run_study import run_study
from sparsesearch.app.workspace import Workspace
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.budget.baselines import baseline_schedules
from sparsesearch.cost.analytic import dense_macs
from sparsesearch.data.digits_task import DigitsTest
from sparsesearch.data.test_split import open_test
from sparsesearch.evaluate.opening import open_context
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.settings import Settings
from sparsesearch.space.definition import load_space
from sparsesearch.store.sql import open_store
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import Fidelity, Origin, Trial
from sparsesearch.training.checkpoints import CheckpointFolder
from sparsesearch.training.kinds import TrainingContext
from sparsesearch.training.scoring import EVAL_BATCH, evaluate_model

BUDGETS = (0.20, 0.25, 0.35, 0.45)
_RESAMPLES = 10_000


@dataclass(frozen=True)
class Experiment:
    """What all studies have in common.

    Attributes:
        data: The bundled task or a variant of it.
        space: Name or path of the search space; None for the default of the backbone.
        evaluations: Schedules evaluated on the supernet weights of each seed, at each budget.
        finalists: Number of these that are fine-tuned.
        supernet_epochs: Epochs of the supernet training; None for the default recipe.
    """

    data: str
    space: str | None
    evaluations: int
    finalists: int
    supernet_epochs: int | None

    def study(self, *, seed: int, budget: float) -> dict[str, object]:
        """The document of one study."""
        kind = f"{self.evaluations}-{self.finalists}-{self.supernet_epochs or 'usual'}"
        name = f"{self.data}-{self.space or 'own'}-{kind}-seed{seed}-{budget:.0%}"
        fidelity: dict[str, object] = {"evaluations": self.evaluations, "finalists": self.finalists}
        if self.supernet_epochs is not None:
            fidelity["supernet_training"] = {"epochs": self.supernet_epochs}
        document: dict[str, object] = {
            "name": re.sub(r"[^A-Za-z0-9.-]", "-", name.replace("%", "p")),
            "backbone": "deit_pico",
            "budget": {"unit": "fraction", "high": budget},
            "data": {"source": self.data},
            "seed": seed,
            "precision": "float32",
            "dispatcher": "inline",
            "fidelity": fidelity,
        }
        if self.space is not None:
            document["space"] = load_space(self.space).model_dump(mode="json")
        return document


def search(settings: Settings, experiment: Experiment, *, seed: int, budget: float) -> tuple[StudySpec, list[Trial]]:
    """Run or resume one study; returns its trials."""
    return search_document(settings, experiment.study(seed=seed, budget=budget))


def search_document(settings: Settings, document: dict[str, object]) -> tuple[StudySpec, list[Trial]]:
    """Run or resume the study of a document; returns its trials."""
    store = open_store(settings.database_url)
    name = str(document["name"])
    if name in store.studies():
        writer = store.open_study(name)
    else:
        writer = store.create_study(resolve(complete(document, progress=Silent()), progress=Silent()))
    spec = writer.spec
    run_study(Workspace(settings, store), writer)
    return spec, list(store.trials(name))


def best(trials: Sequence[Trial]) -> Trial:
    """The trial with the best validation accuracy; the cheaper one in case of a tie."""
    return max(trials, key=lambda t: (t.metrics["val_top1"], -t.cost.macs))


def smallest_baseline_budget(spec: StudySpec, geometry: BackboneGeometry) -> float:
    """The smallest whole percent of the dense cost that a hand-crafted baseline can meet, as a fraction."""
    dense = dense_macs(geometry)
    assert spec.resolved is not None
    baselines = baseline_schedules(geometry, spec.resolved.space, low=None, high=dense)
    return math.ceil(100 * min(baseline.least for baseline in baselines) / dense) / 100


def test_correct(context: TrainingContext, settings: Settings, task: DigitsTest, trial: Trial) -> NDArray[np.bool_]:
    """Whether a trial's checkpoint classifies each test canvas correctly."""
    assert trial.checkpoint is not None
    uid = open_store(settings.database_url).uid(trial.study)
    folder = CheckpointFolder(settings.storage, trial.study, uid)
    model = context.fresh_model()
    if trial.fidelity is Fidelity.FINETUNE:
        sparsify_(model, trial.schedule)
    model.load_state_dict(folder.load(trial.checkpoint)[0])
    accumulator = evaluate_model(model, task.test(batch_size=EVAL_BATCH), arithmetic=context.arithmetic)
    correct: NDArray[np.bool_] = accumulator.correct.numpy()
    return correct


def one_cell(settings: Settings, experiment: Experiment, *, seed: int, budget: float) -> dict[str, object]:
    """All rivals of one seed and budget, with their per-canvas results on the test split."""
    spec, trials = search(settings, experiment, seed=seed, budget=budget)
    context = open_context(spec)
    task = open_test(spec.data, backbone=spec.backbone)
    assert isinstance(task, DigitsTest)
    front = study_front(trials)
    assert front.reference is not None
    tuned = [trial for trial in front.candidates if trial.fidelity is Fidelity.FINETUNE]
    rivals = {"dense": front.reference, **{t.label: t for t in tuned if t.origin is Origin.BASELINE}}
    found = [trial for trial in tuned if trial.origin is Origin.SEARCH]
    baselines = [trial for trial in tuned if trial.origin is Origin.BASELINE]
    if baselines:
        rivals["best hand"] = best(baselines)
    else:
        more = smallest_baseline_budget(spec, context.geometry)
        _, more_expensive = search(settings, experiment, seed=seed, budget=more)
        baselines = [trial for trial in study_front(more_expensive).candidates if trial.origin is Origin.BASELINE]
        rivals[f"best hand of {more:.0%}"] = best(baselines)
    rivals["searched"] = best(found)
    rows = {}
    for label, trial in rivals.items():
        correct = test_correct(context, settings, task, trial)
        rows[label] = {
            "macs": trial.cost.macs,
            "share": trial.cost.macs / front.reference.cost.macs,
            "schedule": trial.schedule.describe(context.geometry),
            "val_top1": trial.metrics["val_top1"],
            "test_top1": float(correct.mean()),
            "correct": correct,
        }
        print(
            f"seed {seed} {budget:.0%} {label:<14} {rows[label]['schedule']:<18} test {correct.mean():.4f}", flush=True
        )
    return {"rows": rows, "sources": task.test_sources()}


def interval(differences: NDArray[np.float64], sources: NDArray[np.int64]) -> tuple[float, float, float]:
    """Mean and 95 % interval of paired differences, resampling source digits.

    Args:
        differences: `S x M`, seeds by canvases, in [-1, 1].
        sources: Source digit of each canvas.
    """
    rng = np.random.default_rng(0)
    num = int(sources.max()) + 1
    by_source = np.zeros(num)
    np.add.at(by_source, sources, differences.mean(axis=0))
    by_source /= np.bincount(sources, minlength=num)
    means = by_source[rng.integers(0, num, (_RESAMPLES, num))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(by_source.mean()), float(low), float(high)


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="folder for studies and trainings (resumable)")
    parser.add_argument("--out", type=Path, required=True, help="JSON with every number")
    parser.add_argument("--data", default="digits", help="digits or digits:hard")
    parser.add_argument("--space", help="search space, a bundled name or a .yaml file; by default that of the backbone")
    parser.add_argument("--budgets", type=float, nargs="+", default=BUDGETS, help="fractions of the dense cost")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0, help="with --seeds 1, run one seed")
    parser.add_argument("--evaluations", type=int, default=60)
    parser.add_argument("--finalists", type=int, default=5)
    parser.add_argument("--supernet-epochs", type=int, help="epochs of the supernet training")
    arguments = parser.parse_args()
    settings = Settings(home=arguments.home, database_url=f"sqlite:///{arguments.home / 'studies.db'}")
    experiment = Experiment(
        arguments.data, arguments.space, arguments.evaluations, arguments.finalists, arguments.supernet_epochs
    )
    of_seeds = {"first_seed": arguments.first_seed, "seeds": arguments.seeds}
    results: dict[str, object] = {**asdict(experiment), **of_seeds, "cells": []}
    lines = [
        "| budget | rival | MACs / dense MACs | test accuracy, % (mean over seeds) | searched minus rival [95 %] |"
    ]
    lines.append("|---|---|---|---|---|")
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    for budget in arguments.budgets:
        cells = [one_cell(settings, experiment, seed=seed, budget=budget) for seed in seeds]
        labels = list(dict.fromkeys(label for cell in cells for label in cell["rows"]))  # type: ignore[attr-defined]
        for label in labels:
            rows = [cell["rows"][label] for cell in cells]  # type: ignore[index]
            searched = [cell["rows"]["searched"] for cell in cells]  # type: ignore[index]
            differences = np.stack(
                [s["correct"].astype(float) - r["correct"] for s, r in zip(searched, rows, strict=True)]
            )
            mean, low, high = interval(differences, cells[0]["sources"])  # type: ignore[arg-type]
            gain = "" if label == "searched" else f"{100 * mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
            accuracy = 100 * np.mean([row["test_top1"] for row in rows])
            lines.append(
                f"| {budget:.0%} | {label} | {np.mean([r['share'] for r in rows]):.3f} | {accuracy:.2f} | {gain} |"
            )
            results["cells"].append(  # type: ignore[attr-defined]
                {
                    "budget": budget,
                    "rival": label,
                    "seeds": [{k: v for k, v in row.items() if k != "correct"} for row in rows],
                    "searched_minus_rival": {"mean": mean, "low": low, "high": high},
                }
            )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
