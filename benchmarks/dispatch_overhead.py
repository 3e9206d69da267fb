"""What it costs to have Ray and the store around a trial, with trials that take no time themselves.

python benchmarks/dispatch_overhead.py [--trials 40] [--evaluations 300]

Printed beside what the stock tools take for the same (plain Ray Tune, Optuna on its SQL storage), measured once on a
machine of two cores. A SQLite store on disk; the first trial of a phase, which waits for processes to start, is a line
of its own.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import ray
from rich.console import Console
from rich.table import Table

from sparsesearch.dispatch.actors import EvaluationActor
from sparsesearch.dispatch.cluster import joined
from sparsesearch.dispatch.messages import Job
from sparsesearch.dispatch.tune import RayDispatcher
from sparsesearch.evaluate.portable import PortableEvaluator
from sparsesearch.events import Ended, Event, Measured
from sparsesearch.geometry import BackboneGeometry, StageGeometry
from sparsesearch.protocols import StudyLedger
from sparsesearch.search.stages import StagedController
from sparsesearch.space.definition import SearchSpace
from sparsesearch.spec import Budget, FidelitySpec, ResourceSpec, StudySpec
from sparsesearch.store.memory import MemoryStore
from sparsesearch.store.sql import open_store
from sparsesearch.trial import Fidelity, FinalState, Measurement, NewTrial, Origin, Trial, TrialState

GEOMETRY = BackboneGeometry(
    name="deit_s",
    image_size=(224, 224),
    stages=(StageGeometry(depth=12, dim=384, attn_dim=384, num_heads=6, mlp_dim=1536, grid=(14, 14)),),
    stem_macs=57_802_752,
    head_macs=384_000,
    params=22_050_664,
)


class InstantEvaluator:
    """One report, at once."""

    def evaluate(self, trial: Trial) -> Iterator[Event]:
        """The report and the end."""
        done: FinalState = TrialState.REFERENCE if trial.origin is Origin.REFERENCE else TrialState.COMPLETE
        step = 0 if trial.fidelity is Fidelity.SUPERNET else 1
        measurement = Measurement(
            step=step, attempt=trial.attempt, fidelity=trial.fidelity, metrics=value(trial), seconds=0.0, seed=0
        )
        yield Measured(trial=trial.number, attempt=trial.attempt, measurement=measurement)
        yield Ended(trial=trial.number, attempt=trial.attempt, state=done)


def value(trial: NewTrial) -> dict[str, float]:
    """An accuracy out of the air."""
    return {"val_top1": int(trial.key[:6], 16) / 0xFFFFFF if trial.key[:6].isalnum() else 0.5}


def open_instant(document: dict[str, Any]) -> InstantEvaluator:
    """The factory."""
    return InstantEvaluator()


EVALUATOR = PortableEvaluator(factory="dispatch_overhead:open_instant")


def study(name: str, *, elastic: bool, evaluations: int, sampler: str = "random") -> StudySpec:
    """A study of DeiT-S's size."""
    return StudySpec(
        name=name,
        backbone="deit_s",
        budget=Budget(unit="gflops", low=2.0, high=3.5),
        space=SearchSpace().for_geometry(GEOMETRY),
        fidelity=FidelitySpec(elastic=elastic, evaluations=evaluations, finalists=1),
        baselines=False,
        sampler=sampler,
    )


class Timed:
    """A run of the dispatcher with the moments at which trials ended."""

    def __init__(self, spec: StudySpec, ledger: StudyLedger, folder: Path) -> None:
        self.ends: dict[Fidelity, list[float]] = {}
        self.started = time.perf_counter()
        with closing(ledger):
            dispatcher = RayDispatcher(ResourceSpec(), storage=folder, on_trial=self._note)
            dispatcher.run(StagedController(spec, GEOMETRY), ledger, EVALUATOR)

    def _note(self, trial: Trial) -> None:
        self.ends.setdefault(trial.fidelity, []).append(time.perf_counter())

    def each(self, fidelity: Fidelity) -> float:
        """Seconds a trial, from the first end to the last."""
        ends = self.ends[fidelity]
        return (ends[-1] - ends[0]) / (len(ends) - 1)


def actor_call() -> float:
    """Seconds of one call of a warm actor with a job, median."""
    new = StagedController(study("call", elastic=True, evaluations=1), GEOMETRY).ask()
    assert new is not None
    trial = Trial(**new.model_dump(), study="call", attempt=1)
    job = Job(trial=trial, evaluator=EVALUATOR, threads=1).to_json()
    actor: Any = ray.remote(EvaluationActor).options(num_cpus=1).remote()
    ray.get(actor.work.remote(job))
    seconds = []
    for _ in range(500):
        started = time.perf_counter()
        ray.get(actor.work.remote(job))
        seconds.append(time.perf_counter() - started)
    ray.kill(actor)
    return median(seconds)


def told_trials(count: int) -> list[Trial]:
    """Finished trials of a random search."""
    spec = study("told", elastic=True, evaluations=count)
    controller = StagedController(spec, GEOMETRY)
    trials: list[Trial] = []
    while (new := controller.ask()) is not None and new.fidelity is not Fidelity.FINETUNE:
        trials.append(finished(new))
        controller.tell(trials[-1])
    return trials


def finished(new: NewTrial) -> Trial:
    """The trial as it ends."""
    state = TrialState.REFERENCE if new.origin is Origin.REFERENCE else TrialState.COMPLETE
    measurement = Measurement(step=0, attempt=1, fidelity=new.fidelity, metrics=value(new), seconds=0.0, seed=0)
    return Trial(**new.model_dump(), study="told", state=state, attempt=1, measurements=(measurement,))


def ask_and_tell(trials: list[Trial], *, sampler: str, asks: int) -> float:
    """Seconds of one ask with its tell behind so many trials, median."""
    spec = study("asked", elastic=True, evaluations=len(trials) + asks + 1, sampler=sampler)
    controller = StagedController(spec, GEOMETRY)
    for trial in trials:
        controller.tell(trial)
    seconds = []
    for _ in range(asks):
        started = time.perf_counter()
        new = controller.ask()
        assert new is not None
        controller.tell(finished(new))
        seconds.append(time.perf_counter() - started)
    return median(seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40, help="trainings through Tune")
    parser.add_argument("--evaluations", type=int, default=300, help="evaluations through actors")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    table = Table("what", "seconds", "stock tools")

    def row(what: str, seconds: float, stock: str) -> None:
        table.add_row(what, f"{seconds * 1000:.2f} ms" if seconds < 1 else f"{seconds:.1f} s", stock)

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name, joined(None):
        row("Ray start", time.perf_counter() - started, "4.1-7.9 s (ray.init, no dashboard)")
        folder = Path(name)
        store = open_store(f"sqlite:///{folder}/studies.db")

        spec = study("trainings", elastic=False, evaluations=arguments.trials)
        run = Timed(spec, store.create_study(spec), folder)
        row("first training, its process starting", run.ends[Fidelity.DENSE][0] - run.started, "3.9 s")
        row("each training after it, through Tune", run.each(Fidelity.FINETUNE), "1.1-2.1 s; 70 ms with reuse_actors")

        spec = study("evaluations", elastic=True, evaluations=arguments.evaluations)
        run = Timed(spec, store.create_study(spec), folder)
        row("each evaluation: ask, store, actor, tell", run.each(Fidelity.SUPERNET), "1.1-2.1 s as a Tune trial")

        spec = study("in-memory", elastic=True, evaluations=arguments.evaluations)
        run = Timed(spec, MemoryStore().create_study(spec), folder)
        row("the same with a store in memory", run.each(Fidelity.SUPERNET), "")
        row("of which the call of a warm actor", actor_call(), "0.56 ms (empty call)")
    for count in (100, 5000):
        trials = told_trials(count)
        for sampler, stock in (("random", ""), ("tpe", {100: "19-190 ms (Optuna, SQL)", 5000: "600 ms"}[count])):
            row(f"ask + tell, {sampler}, {count:,} trials", ask_and_tell(trials, sampler=sampler, asks=15), stock)
    Console().print(table)


if __name__ == "__main__":
    main()
