"""Rank correlation and speed of supernet evaluations for deit_pico on the bundled task.

python benchmarks/supernet_ranking.py --home /tmp/ranking --out docs/results/supernet_ranking.json

1. One supernet training, and 1,000 schedules between 20 % and 45 % of the dense multiply-adds evaluated on its weights,
   on 1,200 validation canvases each, with one thread per core. The dense model is trained first and not counted.
2. Kendall's tau between the supernet and separate fine-tunings: 12 schedules spread over the range, and 12 random ones
   within 3 % of 25 %. They are fine-tuned from the supernet weights, like finalists, and from the dense weights, which
   are independent of the supernet; the accuracy is the mean over `--tunings` seeds on all 3,600 validation canvases.
   The tau of plain multiply-adds is printed for comparison, and that of the first two seeds, which is how well a
   fine-tuning predicts another one of the same schedule. Intervals: bootstrap over the schedules.

`--table FILE` stores the ranked schedules, one `{"schedule", "macs", "val_top1"}` per line, for
benchmarks/search_quality.py.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor

from sparsesearch.app.complete import complete
from sparsesearch.app.resolve import resolve
from sparsesearch.budget.solve import fit_to_budget
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.evaluate.opening import open_context
from sparsesearch.schedule import Schedule
from sparsesearch.seeds import derive_seed
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.sampling import draw_shape
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import StudySpec, TrainSpec
from sparsesearch.training.checkpoints import read_tensors, write_tensors
from sparsesearch.training.kinds import Training, TrainingContext, dense_training, sparse_training, supernet_training
from sparsesearch.training.loop import TrainingRun
from sparsesearch.training.scoring import EVAL_BATCH, PrefixCachedScorer, evaluate_model
from sparsesearch.training.teacher import Teacher

RANGE = (0.20, 0.45)
ONE_BUDGET, TOLERANCE = 0.25, 0.03


def open_spec(arguments: argparse.Namespace) -> StudySpec:
    """The study that defines all components; it is not run."""
    document: dict[str, object] = {
        "name": "ranking",
        "backbone": "deit_pico",
        "budget": {"unit": "fraction", "low": RANGE[0], "high": RANGE[1]},
        "space": arguments.space,
        "data": {"source": arguments.data},
        "seed": arguments.seed,
        "precision": "float32",
        "device": "cpu",
        "fidelity": {"supernet_training": {"epochs": arguments.epochs}},
    }
    return resolve(complete(document, progress=Silent()), progress=Silent())


def resolved_space(spec: StudySpec) -> ResolvedSpace:
    """The space of a prepared study."""
    assert spec.resolved is not None
    return spec.resolved.space


def train(training: Training, context: TrainingContext, *, seed: int) -> dict[str, Tensor]:
    """Run a training; returns the weights."""
    run = TrainingRun(
        training.model, training.spec, steps_per_epoch=training.steps_per_epoch, arithmetic=context.arithmetic
    )
    for epoch in range(1, training.spec.epochs + 1):
        with Silent().bar("", training.steps_per_epoch) as bar:
            run.epoch(training.batches(epoch), training.objective, seed=derive_seed(seed, "epoch", epoch), bar=bar)
    return training.model.state_dict()


def draw(
    spec: StudySpec, context: TrainingContext, *, count: int, low: float, high: float, seed: int
) -> list[Schedule]:
    """Distinct random schedules of the space, each scaled to a budget between two fractions of dense."""
    space = resolved_space(spec)
    rng = np.random.default_rng(seed)
    dense = AnalyticCost().estimate(context.geometry, Schedule()).macs
    found: dict[str, Schedule] = {}
    while len(found) < count:
        limit = round(dense * rng.uniform(low, high))
        shape = draw_shape(space, rng=rng)
        schedule = fit_to_budget(context.geometry, space=space, shape=shape, limit=limit)
        if schedule is not None and dense_fraction(context, schedule) >= low:
            found.setdefault(schedule.key(context.geometry), schedule)
    return list(found.values())


def dense_fraction(context: TrainingContext, schedule: Schedule) -> float:
    """Multiply-adds as a fraction of dense."""
    cost = AnalyticCost()
    return cost.estimate(context.geometry, schedule).macs / cost.estimate(context.geometry, Schedule()).macs


class Worker:
    """State of a process between schedules."""

    context: TrainingContext
    spec: StudySpec
    supernet: dict[str, Tensor]
    dense: dict[str, Tensor]
    scorer: PrefixCachedScorer
    teacher: Teacher


def open_worker(spec: StudySpec, folder: Path, canvases: int) -> None:
    """Load the weights in a new process."""
    torch.set_num_threads(1)
    Worker.spec, Worker.context = spec, open_context(spec)
    Worker.supernet = read_tensors(folder / "supernet_training.safetensors")[0]
    Worker.dense = read_tensors(folder / "dense.safetensors")[0]
    context = Worker.context
    model = context.supernet_model(resolved_space(spec))
    model.load_state_dict(Worker.supernet)
    few = spec.model_copy(update={"data": spec.data.model_copy(update={"num_val_images": canvases})})
    task = open_context(few).task
    Worker.scorer = PrefixCachedScorer(
        model, lambda: task.val("screen", batch_size=EVAL_BATCH), arithmetic=context.arithmetic
    )
    teacher = context.model_with(Worker.dense)
    Worker.teacher = Teacher(teacher, context.task, arithmetic=context.arithmetic, use_pool=True)


def score(schedule: Schedule) -> float:
    """Accuracy on the supernet."""
    return Worker.scorer.score(schedule)["val_top1"]


def fine_tune(job: tuple[Schedule, int], *, start: str) -> float:
    """Accuracy of a schedule after fine-tuning with a seed, on other canvases than those of the supernet."""
    schedule, tuning = job
    context, spec = Worker.context, Worker.spec.fidelity.finetune
    training = sparse_training(
        context,
        spec,
        schedule=schedule,
        start=Worker.supernet if start == "supernet" else Worker.dense,
        teacher=Worker.teacher,
        seed=derive_seed(Worker.spec.seed, "ranking", tuning),
        label="",
    )
    train(training, context, seed=derive_seed(Worker.spec.seed, "ranking", tuning))
    accumulator = evaluate_model(
        training.model, context.task.val("confirm", batch_size=EVAL_BATCH), arithmetic=context.arithmetic
    )
    return accumulator.metrics("val")["val_top1"]


def tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b."""
    return float(kendalltau(first, second).statistic)


def tau_interval(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Its 95 % interval, resampling the schedules."""
    rng = np.random.default_rng(0)
    ours, theirs = np.asarray(first), np.asarray(second)
    drawn = rng.integers(0, len(ours), (2000, len(ours)))
    found = [tau(ours[index].tolist(), theirs[index].tolist()) for index in drawn]
    return [round(value, 3) for value in np.nanquantile(found, [0.025, 0.975]).tolist()]


def main() -> None:
    """Run everything, print the results and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="folder for weights; a dense model there is reused")
    parser.add_argument("--out", type=Path, required=True, help="JSON with times and correlations")
    parser.add_argument("--table", type=Path, help="also write the ranked schedules, as JSON lines")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--canvases", type=int, default=1200, help="validation canvases of a supernet evaluation")
    parser.add_argument("--tunings", type=int, default=2, help="fine-tunings per schedule, with different seeds")
    parser.add_argument("--pairs", type=int, default=12, help="schedules of each correlation")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of the supernet training")
    parser.add_argument("--dense-epochs", type=int, default=None)
    parser.add_argument("--starts", nargs="*", default=["supernet", "dense"], choices=["supernet", "dense"])
    parser.add_argument("--groups", nargs="*", default=["over the range", "at one budget"], help="what is fine-tuned")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--space", default="deit_pico")
    parser.add_argument("--data", default="digits")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.workers)
    spec = open_spec(arguments)
    context = open_context(spec)

    seconds: dict[str, float] = {}
    began = perf_counter()
    dense_file = arguments.home / "dense.safetensors"
    if not dense_file.is_file():
        recipe: TrainSpec = spec.fidelity.dense
        if arguments.dense_epochs is not None:
            recipe = recipe.model_copy(update={"epochs": arguments.dense_epochs})
        training = dense_training(context, recipe, weights="scratch", seed=spec.seed)
        assert training is not None
        write_tensors(dense_file, train(training, context, seed=spec.seed), metadata={})
    dense = read_tensors(dense_file)[0]
    seconds["dense"] = perf_counter() - began

    began = perf_counter()
    teacher = Teacher(context.model_with(dense), context.task, arithmetic=context.arithmetic, use_pool=True)
    training = supernet_training(
        context,
        spec.fidelity.supernet_training,
        space=resolved_space(spec),
        dense=dense,
        teacher=teacher,
        seed=spec.seed,
    )
    write_tensors(
        arguments.home / "supernet_training.safetensors", train(training, context, seed=spec.seed), metadata={}
    )
    seconds["supernet"] = perf_counter() - began

    ranked = draw(spec, context, count=arguments.schedules, low=RANGE[0], high=RANGE[1], seed=1)
    near = {"low": ONE_BUDGET * (1 - TOLERANCE), "high": ONE_BUDGET * (1 + TOLERANCE)}
    at_one = draw(spec, context, count=arguments.pairs, **near, seed=2)
    by_cost = sorted(ranked, key=partial(dense_fraction, context))
    over_range = [by_cost[i] for i in np.linspace(0, len(by_cost) - 1, arguments.pairs).round().astype(int)]
    results: dict[str, object] = {"correlations": []}
    with ProcessPoolExecutor(
        arguments.workers,
        mp_context=get_context("spawn"),
        initializer=open_worker,
        initargs=(spec, arguments.home, arguments.canvases),
    ) as pool:
        began = perf_counter()
        accuracies = list(pool.map(score, ranked))
        seconds["ranking"] = perf_counter() - began
        found = dict(zip((s.key(context.geometry) for s in ranked), accuracies, strict=True))
        rate = seconds["ranking"] / len(ranked) * arguments.workers
        print(
            f"{len(ranked)} schedules x {arguments.canvases} canvases on {arguments.workers} workers: supernet "
            f"training {seconds['supernet']:.0f} s + evaluations {seconds['ranking']:.0f} s ({rate:.3f} s each on one "
            f"core) = {seconds['supernet'] + seconds['ranking']:.0f} s; before that dense {seconds['dense']:.0f} s",
            flush=True,
        )
        groups = {"over the range": over_range, "at one budget": at_one}
        for label, schedules in ((label, groups[label]) for label in arguments.groups):
            new = [s for s in schedules if s.key(context.geometry) not in found]
            found |= dict(zip((s.key(context.geometry) for s in new), pool.map(score, new), strict=True))
            supernet = [found[s.key(context.geometry)] for s in schedules]
            macs = [dense_fraction(context, s) for s in schedules]
            for start in arguments.starts:
                jobs = [(schedule, tuning) for schedule in schedules for tuning in range(arguments.tunings)]
                each = np.array(list(pool.map(partial(fine_tune, start=start), jobs)))
                by_seed = each.reshape(len(schedules), -1)
                tuned = by_seed.mean(axis=1).tolist()
                again = by_seed[:, :2].T.tolist() if arguments.tunings > 1 else None
                row = {
                    "schedules": label,
                    "fine_tuned_from": start,
                    "tau_supernet": tau(supernet, tuned),
                    "tau_supernet_interval": tau_interval(supernet, tuned),
                    "tau_of_two_tunings": None if again is None else tau(*again),
                    "tau_of_two_tunings_interval": None if again is None else tau_interval(*again),
                    "tau_macs": tau(macs, tuned),
                    "pairs": [
                        {"schedule": s.describe(context.geometry), "share": m, "supernet": a, "tuned": b, "tunings": t}
                        for s, m, a, b, t in zip(schedules, macs, supernet, tuned, by_seed.tolist(), strict=True)
                    ],
                }
                results["correlations"].append(row)  # type: ignore[attr-defined]
                print(
                    f"{len(schedules)} schedules {label}, fine-tuned from {start} weights: Kendall tau "
                    f"{row['tau_supernet']:.2f} {row['tau_supernet_interval']} (of two fine-tunings "
                    f"{row['tau_of_two_tunings']}, plain multiply-adds {row['tau_macs']:.2f}); fine-tuned "
                    f"{min(tuned):.3f} to {max(tuned):.3f}, supernet {min(supernet):.3f} to {max(supernet):.3f}",
                    flush=True,
                )
    seconds["all"] = sum(seconds.values())
    results["seconds"] = seconds
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if arguments.table is not None:
        cost = AnalyticCost()
        with arguments.table.open("w", encoding="utf-8") as lines:
            for schedule, accuracy in zip(ranked, accuracies, strict=True):
                price = cost.estimate(context.geometry, schedule).macs
                entry = {"schedule": schedule.model_dump(mode="json"), "macs": price, "val_top1": accuracy}
                lines.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main()
