"""Cost of the MLflow sync: per trial, per sync, per page.

    python benchmarks/mlflow_sync.py [--trials 40] [--evaluations 1000]

A synthetic study with 10 epochs per trial is synced with a real MLflow: in the bundled database, and on a local server.
For comparison, the same values are logged as in MLflow's tutorials, with one call per value, into a default MLflow
database. Times are medians.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from mlflow_server import MlflowServer
from sample_study import DEIT_SMALL, sample_spec

from sparsesearch.analysis.describe_front import describe_front
from sparsesearch.analysis.view import StudyView
from sparsesearch.app.tracker import mlflow_address, study_sync
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.schedule import Schedule
from sparsesearch.settings import Settings
from sparsesearch.store.sql import SqlStore, open_store
from sparsesearch.study.events import Ended, Measured
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.trial import Fidelity, Measurement, NewTrial, Origin, TrialState
from sparsesearch.tracking.connection import apply_environment, connect
from sparsesearch.tracking.pareto_page import pareto_page
from sparsesearch.tracking.records import RunRecord, trial_record

EPOCHS = 10


def add(writer: StudyWriter, number: int, fidelity: Fidelity) -> None:
    """Add a finished trial with synthetic numbers."""
    is_dense = fidelity is Fidelity.DENSE
    count = 60 + number % 130
    schedule = Schedule() if is_dense else Schedule.at([3, 6], [count / 196, max(1, count - 40) / 196])
    writer.add_trial(
        NewTrial(
            number=number,
            fidelity=fidelity,
            origin=Origin.REFERENCE if is_dense else Origin.SEARCH,
            label="dense" if is_dense else "search",
            schedule=schedule.canonical(DEIT_SMALL),
            key=f"{number:032x}",
            cost=AnalyticCost().estimate(DEIT_SMALL, schedule),
            seed=number,
        )
    )
    writer.claim(number)
    for step in [0] if fidelity is Fidelity.SUPERNET else range(1, EPOCHS + 1):
        top1 = 0.7 + 0.0005 * count + 0.001 * step
        metrics = {"val_top1": top1, "val_loss": 2 - top1, "train_loss": 2.1 - top1}
        measurement = Measurement(step=step, attempt=1, fidelity=fidelity, metrics=metrics, seconds=1.0, seed=number)
        writer.record(Measured(trial=number, attempt=1, measurement=measurement))
    state = TrialState.REFERENCE if is_dense else TrialState.COMPLETE
    writer.record(Ended(trial=number, attempt=1, state=state))


def sync_times(store: SqlStore, settings: Settings, *, trials: int, evaluations: int) -> dict[str, float]:
    """Seconds of each part, with one new training per sync."""
    writer = store.create_study(sample_spec())
    add(writer, 0, Fidelity.DENSE)
    for number in range(1, 1 + evaluations):
        add(writer, number, Fidelity.SUPERNET)
    live = study_sync(store, settings, "sample")
    times = {"first sync": timed(lambda: live.run(is_live=True))}
    grown: list[float] = []
    for number in range(1 + evaluations, 1 + evaluations + trials):
        add(writer, number, Fidelity.FINETUNE)
        grown.append(timed(lambda: live.run(is_live=True)))
    writer.close()
    times["sync with one new training"] = median(grown)
    times["sync without changes"] = median(timed(lambda: live.run(is_live=True)) for _ in range(10))
    times["final sync, including files"] = timed(lambda: live.run(is_live=False))
    fresh = study_sync(store, settings, "sample")
    times["sync of an up-to-date study"] = timed(lambda: fresh.run(is_live=False))
    return times


def runs_alone(records: list[RunRecord], settings: Settings) -> float:
    """Seconds per run spent in MLflow, without reading the store."""
    from sparsesearch.tracking.stored_runs import create_run, update_run

    connection = connect(mlflow_address(settings))

    def one(record: RunRecord) -> None:
        update_run(connection, create_run(connection, record, parent="0" * 32), record, parent="0" * 32)

    return median(timed(partial(one, record)) for record in records)


def single_calls(records: list[RunRecord], folder: Path) -> float:
    """Seconds per run with one call per value."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'plain.db'}")
    experiment = client.create_experiment("plain", artifact_location=(folder / "plain").as_uri())

    def one(record: RunRecord) -> None:
        run = client.create_run(experiment, run_name=record.name).info.run_id
        for key, value in record.params.items():
            client.log_param(run, key, value)
        for key, value in {**record.identity, **record.tags}.items():
            client.set_tag(run, key, value)
        for point in record.metrics:
            client.log_metric(run, point.key, point.value, timestamp=point.time_ms, step=point.step)
        client.set_terminated(run)

    return median(timed(partial(one, record)) for record in records)


def timed(work: Callable[[], object]) -> float:
    """Duration of a call in seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def worked(work: Callable[[], object]) -> float:
    """Processor time of a call in seconds."""
    started = time.process_time()
    work()
    return time.process_time() - started


def load() -> None:
    """Import the modules that the sync needs."""
    apply_environment()
    importlib.import_module("mlflow").MlflowClient  # noqa: B018 - it is loaded on first access


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--evaluations", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(home=folder, database_url=f"sqlite:///{folder / 'studies.db'}")
        store = open_store(settings.database_url)
        print("processor time, milliseconds")
        print(f"  {'importing MLflow, once per process':<40}{1000 * worked(load):9.1f}")
        print(
            f"  {'creating tables, once per home':<40}{1000 * worked(lambda: connect(mlflow_address(settings))):9.1f}"
        )
        print(f"{arguments.trials} trainings of {EPOCHS} epochs, {arguments.evaluations} evaluations; milliseconds")
        for what, seconds in sync_times(
            store, settings, trials=arguments.trials, evaluations=arguments.evaluations
        ).items():
            print(f"  {what:<40}{1000 * seconds:9.1f}")
        view = StudyView.of(store, "sample")
        front = describe_front(view)
        print(f"  {'the page':<40}{1000 * median(timed(lambda: pareto_page(front)) for _ in range(5)):9.1f}")
        print(f"  {'the page, MB':<40}{len(pareto_page(front).encode()) / 1e6:9.2f}")
        records = [trial_record(view, trial) for trial in view.trained[1:]]
        sizes = f"{len(records[0].params)} parameters, {len(records[0].metrics)} metric values per run"
        plain, ours = single_calls(records[:5], folder), runs_alone(records, settings)
        print(f"one run ({sizes}); milliseconds")
        print(f"  {'one call per value':<40}{1000 * plain:9.1f}")
        print(f"  {'batched, bundled database':<40}{1000 * ours:9.1f}   {plain / ours:.0f} times faster")
        server_folder = folder / "server"
        server_folder.mkdir()
        server = MlflowServer(server_folder)
        server.start()
        try:
            remote = settings.model_copy(update={"mlflow_tracking_uri": server.uri})
            print(f"  {'batched, local server':<40}{1000 * runs_alone(records, remote):9.1f}")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
