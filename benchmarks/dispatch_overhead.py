"""Overhead of a trial, compared with plain Ray Tune and Optuna; run it on an idle machine.

OMP_NUM_THREADS=1 python benchmarks/dispatch_overhead.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import instant
import optuna
import ray
from ray import tune

from sparsesearch.dispatch.cluster import joined
from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.dispatch.tune import RayDispatcher
from sparsesearch.evaluate.portable import PortableEvaluator
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.search.controller import StagedController
from sparsesearch.space.definition import SearchSpace
from sparsesearch.store.sql import open_store
from sparsesearch.study.events import Ended, Measured
from sparsesearch.study.protocols import Done, StudyWriter, Wait
from sparsesearch.study.spec import Budget, FidelitySpec, Resolved, ResourceSpec, StudySpec
from sparsesearch.study.trial import Fidelity, Measurement, NewTrial, TrialState

EVALUATOR = PortableEvaluator(factory="instant:open_instant")
RESOURCES = ResourceSpec(max_concurrent=2)
GEOMETRY: BackboneGeometry = instant.DEIT_SMALL
SPACE = SearchSpace(max_predictors=4)


def show(what: str, samples: list[float], *, unit: str = "ms") -> None:
    """Print one row: median and minimum of samples in seconds."""
    scale = {"ms": 1e3, "s": 1.0}[unit]
    print(f"{what:66s} median {scale * statistics.median(samples):9.2f} {unit}, minimum {scale * min(samples):9.2f}")


def timed(call: Callable[[], object]) -> float:
    """Duration of a call in seconds."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def new_writer(folder: Path, name: str, *, evaluations: int = 60) -> StudyWriter:
    """An empty study in a SQLite file on disk."""
    study = StudySpec(
        name=name,
        backbone="deit_s",
        budget=Budget(unit="gflops", high=3.0),
        space=SPACE,
        fidelity=FidelitySpec(evaluations=evaluations),
        baselines=False,
        resolved=Resolved(
            geometry=GEOMETRY, space=SPACE.resolve(GEOMETRY), num_classes=10, in_chans=3, data_fingerprint="instant"
        ),
    )
    return open_store(f"sqlite:///{folder}/{name}.db").create_study(study)


def report_start() -> None:
    """Time to import and start Ray and Tune."""
    code = "import time; t = time.perf_counter(); import ray.tune; print(time.perf_counter() - t)"
    imports = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(2)]
    show("import ray.tune", imports, unit="s")

    def start_and_stop() -> None:
        with joined(None):
            started.append(time.perf_counter() - begun)

    started: list[float] = []
    whole: list[float] = []
    for _ in range(2):
        begun = time.perf_counter()
        whole.append(timed(start_and_stop))
    show("Ray started on this machine (2 CPUs, no dashboard)", started, unit="s")
    show("  and ended", [a - b for a, b in zip(whole, started, strict=True)], unit="s")


def report_trials(folder: Path) -> None:
    """Dispatch of empty trainings and evaluations; each figure is the difference between two counts, per trial."""

    def run(fidelity: Fidelity, count: int, *, inline: bool = False) -> float:
        writer = new_writer(folder, f"{fidelity.value}-{count}-{time.perf_counter_ns()}")
        controller = instant.ManyTrials(count, fidelity)
        dispatcher = InlineDispatcher() if inline else RayDispatcher(RESOURCES, storage=folder)
        seconds = timed(lambda: dispatcher.run(controller, writer, EVALUATOR))
        writer.close()
        return seconds

    def slope(measure: Callable[[int], float], few: int, many: int) -> list[float]:
        return [(measure(many) - measure(few)) / (many - few) for _ in range(2)]

    def stock(count: int, *, reuse: bool) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            tuner = tune.Tuner(
                _Stock,
                param_space={"x": tune.uniform(0, 1)},
                tune_config=tune.TuneConfig(num_samples=count, max_concurrent_trials=2, reuse_actors=reuse),
                run_config=tune.RunConfig(storage_path=scratch, verbose=0),
            )
            return timed(tuner.fit)

    @ray.remote(num_cpus=1)
    class Bare:
        def work(self, text: str) -> str:
            return text

    show("a trial, inline", slope(lambda n: run(Fidelity.FINETUNE, n, inline=True), 10, 210))
    show("a training as a Tune trial, ours", slope(lambda n: run(Fidelity.FINETUNE, n), 4, 64))
    show("  stock Tune, reuse_actors=True", slope(lambda n: stock(n, reuse=True), 4, 14))
    show("  stock Tune, default options", slope(lambda n: stock(n, reuse=False), 2, 8))
    show("an evaluation on a warm actor, ours", slope(lambda n: run(Fidelity.SUPERNET, n), 20, 620))
    actor = Bare.remote()  # type: ignore[attr-defined]  # what the decorator adds
    ray.get(actor.work.remote("x"))
    show("  bare actor call", [timed(lambda: ray.get(actor.work.remote("x"))) for _ in range(500)])
    ray.kill(actor)


class _Stock(tune.Trainable):
    def step(self) -> dict[str, object]:
        """Report one result and stop."""
        return {"score": 0.5, "done": True}

    def reset_config(self, new_config: dict[str, object]) -> bool:
        """Accept any configuration."""
        return True


def report_asks(folder: Path, count: int) -> None:
    """Overhead of controller and store per evaluated schedule: ask, add, claim, measure, end, tell.

    Args:
        folder: Folder of the database.
        count: Trials that were evaluated before; they are not proposals of the sampler.
    """
    writer = new_writer(folder, f"asks-{count}", evaluations=1000)
    controller = StagedController(writer.spec, GEOMETRY)

    def run(asked: NewTrial | Wait | Done) -> None:
        assert isinstance(asked, NewTrial)
        trial = writer.claim(writer.add_trial(asked).number)
        measurement = Measurement(
            step=0,
            attempt=1,
            fidelity=trial.fidelity,
            metrics={"val_top1": 0.6 + 0.1 * (int(trial.key[:8], 16) % 1000) / 1000},
            seconds=0.0,
            seed=0,
        )
        writer.record(Measured(trial=trial.number, attempt=1, measurement=measurement))
        is_reference = trial.fidelity in (Fidelity.DENSE, Fidelity.SUPERNET_TRAINING)
        state = TrialState.REFERENCE if is_reference else TrialState.COMPLETE
        controller.tell(writer.record(Ended(trial=trial.number, attempt=1, state=state)))

    for _ in range(2):
        run(controller.ask())
    given = instant.ManyTrials(count, Fidelity.SUPERNET)
    while isinstance(trial := given.ask(), NewTrial):
        run(trial.model_copy(update={"number": trial.number + 2}))
    times = [timed(lambda: run(controller.ask())) for _ in range(20)]
    show(f"ask + store + tell at {count} trials, TPE, SQLite", times)
    writer.close()


def report_stock_asks(folder: Path) -> None:
    """Optuna's storage on SQLite, with as many parameters as the search space."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=f"sqlite:///{folder}/optuna.db", sampler=optuna.samplers.TPESampler(seed=0))
    distributions = {f"x{i}": optuna.distributions.FloatDistribution(0, 1) for i in range(12)}

    def one() -> None:
        trial = study.ask(distributions)  # type: ignore[arg-type]
        study.tell(trial, trial.params["x0"])

    times = [timed(one) for _ in range(120)]
    show("  stock Optuna (TPE, RDB, SQLite, 12 parameters) at 100 trials", times[-20:])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch_folder:
        root = Path(scratch_folder)
        for num_trials in (100, 5000):
            report_asks(root, num_trials)
        report_stock_asks(root)
        report_start()
        with joined(None):
            report_trials(root)
