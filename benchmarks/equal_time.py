"""Fronts at equal wall time: the strategies supernet and finetune and both hand-crafted baselines, bundled task.

python benchmarks/equal_time.py --home /tmp/equal --out docs/results/equal_time.json

For each seed, after one shared dense training that is not counted:

1. `run --budget 20%:45% --strategy supernet` with its defaults. Its time, including the supernet training, is the time
   limit of the others.
2. `--strategy finetune` for the same range: every proposed schedule is fine-tuned from the dense model. More schedules
   are requested than fit into the time; those that finished in time count.
3. Each hand-crafted baseline at evenly spaced budgets of the range, fine-tuned from the dense model like finalists,
   with the same parallelism as the search. This takes less time; more budgets would add points that are too close to be
   distinguished.
4. Each hand-crafted baseline again, with as many epochs per schedule as fit into the time of the search.

Each rival's front is selected by validation accuracy from its own proposals (studies without their hand-crafted
baselines). Then the test split is opened: the result is the hypervolume of the front's test accuracies and
multiply-adds between the reference point (80 % accuracy, half of the dense multiply-adds) and the ideal point (100 %,
no cost).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from time import perf_counter

import torch
from embedded_task import test_correct
from supernet_ranking import train

from sparsesearch.analysis.pareto import hypervolume, pareto_front
from sparsesearch.analysis.study_front import has_score
from sparsesearch.analysis.view import StudyView
from sparsesearch.app.complete import complete
from sparsesearch.app.resolve import resolve
from sparsesearch.app.run_study import run_study
from sparsesearch.app.workspace import Workspace
from sparsesearch.budget.baselines import handcrafted_baselines
from sparsesearch.budget.solve import fit_to_budget
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.data.digits_task import DigitsTest
from sparsesearch.data.test_split import open_test
from sparsesearch.evaluate.opening import open_context
from sparsesearch.schedule import Schedule
from sparsesearch.settings import Settings
from sparsesearch.store.sql import open_store
from sparsesearch.study.metric import VAL_TOP1
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import Strategy, StudySpec, TrainSpec
from sparsesearch.study.trial import Fidelity, Origin, Trial
from sparsesearch.training.checkpoints import CheckpointFolder
from sparsesearch.training.kinds import TrainingContext, sparse_training
from sparsesearch.training.scoring import EVAL_BATCH, evaluate_model
from sparsesearch.training.teacher import Teacher

LOW, HIGH = 0.20, 0.45
WORST_ACCURACY, WORST_FRACTION = 0.80, 0.50


@dataclass(frozen=True)
class Point:
    """One fine-tuned schedule.

    Attributes:
        schedule: Description of the schedule.
        share: Multiply-adds as a fraction of dense.
        val_top1: Accuracy on the validation canvases, which selects the front.
        test_top1: Accuracy on the test canvases.
    """

    schedule: str
    share: float
    val_top1: float
    test_top1: float


@dataclass(frozen=True)
class Row:
    """One rival and seed.

    Attributes:
        rival: Name of the rival.
        seed: Seed of the study.
        seconds: Wall time after the dense training.
        num_trained: Number of schedules fine-tuned in that time.
        epochs: Epochs of each fine-tuning.
        front: The front by validation accuracy.
        hypervolume: On the test split, as a fraction of the area between reference and ideal point.
    """

    rival: str
    seed: int
    seconds: float
    num_trained: int
    epochs: int
    front: tuple[Point, ...]
    hypervolume: float

    def line(self) -> str:
        """The row as text."""
        return (
            f"seed {self.seed} {self.rival:<23} {self.seconds:5.0f} s, {self.num_trained:3d} fine-tuned for "
            f"{self.epochs} epochs, front of {len(self.front):2d}, test hypervolume {self.hypervolume:.4f}"
        )


def make_row(
    rival: str, spec: StudySpec, *, seconds: float, num_trained: int, epochs: int, front: Sequence[Point]
) -> Row:
    """A row with the hypervolume of a front on the test split."""
    area = hypervolume([(p.test_top1, p.share) for p in front], reference=(WORST_ACCURACY, WORST_FRACTION))
    fraction = area / ((1.0 - WORST_ACCURACY) * WORST_FRACTION)
    return Row(rival, spec.seed, seconds, num_trained, epochs, tuple(front), fraction)


def run(settings: Settings, *, seed: int, strategy: Strategy, evaluations: int | None = None) -> StudyView:
    """Run or resume one study."""
    store = open_store(settings.database_url)
    name = f"{strategy}-seed{seed}"
    if name not in store.studies():
        document: dict[str, object] = {
            "name": name,
            "backbone": "deit_pico",
            "budget": {"unit": "fraction", "low": LOW, "high": HIGH},
            "seed": seed,
            "precision": "float32",
            "device": "cpu",
            "fidelity": {"strategy": strategy} | ({} if evaluations is None else {"evaluations": evaluations}),
            "baselines": strategy == "supernet",  # its wall time is that of the command with default options
        }
        store.create_study(resolve(complete(document, progress=Silent()), progress=Silent())).close()
    run_study(Workspace(settings, store), store.open_study(name, resume=True))
    return StudyView.of(store, name)


def seconds_after_dense(view: StudyView, trial: Trial) -> float:
    """End of a trial in seconds after the end of the dense training."""
    dense = next(trial for trial in view.trials if trial.fidelity is Fidelity.DENSE)
    began, ended = view.times_of(dense).ended_at, view.times_of(trial).ended_at
    assert began is not None, "the store records the clock"
    assert ended is not None, "the store records the clock"
    return ended - began


def fine_tuned(view: StudyView, *, within: float) -> list[Trial]:
    """The searched schedules that were fine-tuned within the time limit."""
    return [
        trial
        for trial in view.trials
        if trial.fidelity is Fidelity.FINETUNE
        and trial.origin is Origin.SEARCH
        and has_score(trial, VAL_TOP1)
        and seconds_after_dense(view, trial) <= within
    ]


def study_row(rival: str, view: StudyView, settings: Settings, *, within: float) -> Row:
    """The front of the schedules that a study fine-tuned in time, with test accuracies."""
    trials = fine_tuned(view, within=within)
    seconds = min(within, max(seconds_after_dense(view, trial) for trial in view.trials))
    spec = view.spec
    context = open_context(spec)
    test = open_test(spec.data, backbone=spec.backbone)
    assert isinstance(test, DigitsTest)
    dense_macs = AnalyticCost().estimate(context.geometry, Schedule()).macs
    front = []
    for i in pareto_front([(trial.metrics["val_top1"], trial.cost.macs) for trial in trials]):
        trial = trials[i]
        front.append(
            Point(
                schedule=trial.schedule.describe(context.geometry),
                share=trial.cost.macs / dense_macs,
                val_top1=trial.metrics["val_top1"],
                test_top1=float(test_correct(context, settings, test, trial).mean()),
            )
        )
    epochs = spec.fidelity.finetune.epochs
    return make_row(rival, spec, seconds=seconds, num_trained=len(trials), epochs=epochs, front=front)


class Worker:
    """State of a process between schedules of the hand-crafted baselines."""

    spec: StudySpec
    context: TrainingContext
    recipe: TrainSpec
    dense: dict[str, torch.Tensor]
    teacher: Teacher


def open_worker(spec: StudySpec, recipe: TrainSpec, dense: dict[str, torch.Tensor]) -> None:
    """Open the task in a new process."""
    torch.set_num_threads(1)
    Worker.spec, Worker.context, Worker.recipe, Worker.dense = spec, open_context(spec), recipe, dense
    Worker.teacher = Teacher(
        Worker.context.model_with(dense), Worker.context.task, arithmetic=Worker.context.arithmetic, use_pool=True
    )


def train_baseline(schedule: Schedule) -> tuple[Point, float]:
    """Fine-tune a schedule from the dense model like a finalist; also returns the seconds of training."""
    context, spec = Worker.context, Worker.spec
    training = sparse_training(
        context,
        Worker.recipe,
        schedule=schedule,
        start=Worker.dense,
        teacher=Worker.teacher,
        seed=spec.seed,
        label="",
    )
    began = perf_counter()
    train(training, context, seed=spec.seed)
    seconds = perf_counter() - began
    test = open_test(spec.data, backbone=spec.backbone)
    assert isinstance(test, DigitsTest)
    accuracies = [
        evaluate_model(training.model, batches, arithmetic=context.arithmetic).metrics("val")["val_top1"]
        for batches in (context.task.val("confirm", batch_size=EVAL_BATCH), test.test(batch_size=EVAL_BATCH))
    ]
    cost = AnalyticCost()
    dense_macs = cost.estimate(context.geometry, Schedule()).macs
    share = cost.estimate(context.geometry, schedule).macs / dense_macs
    return Point(schedule.describe(context.geometry), share, *accuracies), seconds


@dataclass(frozen=True)
class Handcrafted:
    """A hand-crafted baseline over the range.

    Attributes:
        label: Name of the baseline.
        schedules: Schedules at those of the evenly spaced budgets that it can meet.
    """

    label: str
    schedules: tuple[Schedule, ...]


@dataclass(frozen=True)
class Tuned:
    """A hand-crafted baseline after fine-tuning.

    Attributes:
        seconds: Total wall time, including start of processes and testing.
        training_seconds: Part of it spent on training, with all workers busy.
        points: One point per schedule.
    """

    seconds: float
    training_seconds: float
    points: tuple[Point, ...]

    def epochs_within(self, seconds: float, *, epochs: int) -> int:
        """Number of epochs, instead of `epochs`, that would have fit into a time."""
        left = seconds - (self.seconds - self.training_seconds)
        return max(epochs, int(epochs * left / self.training_seconds))


def baselines_of(view: StudyView, *, num_points: int) -> list[Handcrafted]:
    """Both hand-crafted baselines at evenly spaced budgets."""
    spec = view.spec
    assert spec.resolved is not None
    geometry, space = spec.resolved.geometry, spec.resolved.space
    dense_macs = AnalyticCost().estimate(geometry, Schedule()).macs
    found = []
    for family in handcrafted_baselines(geometry):
        schedules: dict[str, Schedule] = {}
        for i in range(num_points):
            limit = round(dense_macs * (LOW + (HIGH - LOW) * i / (num_points - 1)))
            schedule = fit_to_budget(geometry, space, shape=family.shape, limit=limit, rule=family.rule)
            if schedule is not None:
                schedules.setdefault(schedule.key(geometry), schedule)
        found.append(Handcrafted(family.label, tuple(schedules.values())))
    return found


def fine_tune(baseline: Handcrafted, view: StudyView, settings: Settings, *, epochs: int, workers: int) -> Tuned:
    """Fine-tune a hand-crafted baseline."""
    spec = view.spec
    dense_trial = next(trial for trial in view.trials if trial.fidelity is Fidelity.DENSE)
    assert dense_trial.checkpoint is not None
    dense = CheckpointFolder(settings.storage, spec.name, view.uid).load(dense_trial.checkpoint)[0]
    recipe = spec.fidelity.finetune.model_copy(update={"epochs": epochs})
    began = perf_counter()
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=open_worker, initargs=(spec, recipe, dense)
    ) as pool:
        points, seconds = zip(*pool.map(train_baseline, baseline.schedules), strict=True)
    return Tuned(perf_counter() - began, sum(seconds) / workers, points)


def baseline_rows(
    view: StudyView, settings: Settings, *, within: float, num_points: int, workers: int
) -> Iterator[Row]:
    """Both hand-crafted baselines, fine-tuned like finalists and then for as long as the time limit allows."""
    epochs = view.spec.fidelity.finetune.epochs
    for baseline in baselines_of(view, num_points=num_points):
        tuned = fine_tune(baseline, view, settings, epochs=epochs, workers=workers)
        yield baseline_row(baseline.label, view, tuned, epochs=epochs)
        longer = tuned.epochs_within(within, epochs=epochs)
        tuned = fine_tune(baseline, view, settings, epochs=longer, workers=workers)
        yield baseline_row(f"{baseline.label}, longer", view, tuned, epochs=longer)


def baseline_row(label: str, view: StudyView, tuned: Tuned, *, epochs: int) -> Row:
    """The front of a hand-crafted baseline."""
    points = tuned.points
    front = [points[i] for i in pareto_front([(point.val_top1, point.share) for point in points])]
    return make_row(label, view.spec, seconds=tuned.seconds, num_trained=len(points), epochs=epochs, front=front)


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="folder for studies and trainings (resumable)")
    parser.add_argument("--out", type=Path, required=True, help="JSON with every number")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--baseline-points", type=int, default=16, help="budgets of each hand-crafted baseline")
    parser.add_argument(
        "--workers", type=int, default=len(os.sched_getaffinity(0)), help="for the hand-crafted baselines"
    )
    arguments = parser.parse_args()
    settings = Settings(home=arguments.home, database_url=f"sqlite:///{arguments.home / 'studies.db'}")
    rows: list[Row] = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        ours = run(settings, seed=seed, strategy="supernet")
        given = max(seconds_after_dense(ours, trial) for trial in ours.trials)
        rows.append(study_row("supernet", ours, settings, within=given))
        print(rows[-1].line(), flush=True)

        took = [sum(m.seconds for m in trial.measurements) for trial in fine_tuned(ours, within=given)]
        one = mean(took) / arguments.workers  # without the time of proposals and evaluations
        rival = run(settings, seed=seed, strategy="finetune", evaluations=round(0.8 * given / one))
        rows.append(study_row("finetune", rival, settings, within=given))
        print(rows[-1].line(), flush=True)

        points, workers = arguments.baseline_points, arguments.workers
        for handcrafted_baseline in baseline_rows(ours, settings, within=given, num_points=points, workers=workers):
            rows.append(handcrafted_baseline)
            print(handcrafted_baseline.line(), flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    for name in dict.fromkeys(row.rival for row in rows):
        mine = [row for row in rows if row.rival == name]
        print(
            f"| {name} | {mean(row.seconds for row in mine):.0f} | {mean(row.num_trained for row in mine):.0f} | "
            f"{mean(len(row.front) for row in mine):.0f} | {', '.join(f'{row.hypervolume:.4f}' for row in mine)} |"
        )


if __name__ == "__main__":
    main()
