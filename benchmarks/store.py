"""The store next to Optuna's RDBStorage: trials added, claimed, measured and ended; run it on an idle machine.

    OMP_NUM_THREADS=1 python benchmarks/store.py [--trials 500] [--rounds 3] [--folder FOLDER]

A trial is written in four transactions, each durable: added, claimed, measured, ended; `batches` writes 32 trials in
three. Optuna does the same with a template, so that it needs no transaction for each parameter. Each process writes a
study of its own into one new database. Kinds run in turn; rates are medians over the rounds, milliseconds those of all
calls of all rounds. FOLDER must be on the disk that is meant.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from postgres_server import PostgresServer, postgres_programs

from sparsesearch.schedule import Schedule
from sparsesearch.store.sql import open_store
from sparsesearch.study.events import Ended, Measured
from sparsesearch.study.numbers import Numbers
from sparsesearch.study.spec import Budget, StudySpec
from sparsesearch.study.trial import Cost, Fidelity, Measurement, NewTrial, Origin, Proposal, TrialState

BATCH = 32
KINDS = ("one by one", "batches", "Optuna")
PARAMS = {f"keep_ratio_{i}": 0.05 * i for i in range(1, 13)}

Calls = Iterable[Callable[[], object]]


def new_trial(number: int) -> NewTrial:
    """A proposal as `evolution` makes it."""
    return NewTrial(
        number=number,
        fidelity=Fidelity.SUPERNET,
        origin=Origin.SEARCH,
        label="search",
        schedule=Schedule.at([3, 6, 9], [0.7, 0.5, 0.3]),
        key=f"{number:032x}",
        cost=Cost(macs=3_000_000_000 + number, params=22_000_000),
        seed=number,
        proposal=Proposal(
            index=number, seed=number, seen=Numbers(range(max(0, number - 100), number)), params={**PARAMS}
        ),
    )


def measured(number: int) -> Measured:
    """An evaluation without training."""
    measurement = Measurement(
        step=0,
        attempt=1,
        fidelity=Fidelity.SUPERNET,
        metrics={"val_top1": 0.8 + number / 1e6, "val_loss": 0.7, "val_images": 1200.0},
        seconds=0.1,
        seed=number,
    )
    return Measured(trial=number, attempt=1, measurement=measurement)


def ended(number: int) -> Ended:
    """Its end."""
    return Ended(trial=number, attempt=1, state=TrialState.COMPLETE)


def ours(url: str, name: str, num_trials: int) -> Calls:
    """The writes of a study, one by one."""
    writer = open_store(url).create_study(StudySpec(name=name, backbone="deit_pico", budget=Budget(high=0.65)))
    trials = [new_trial(number) for number in range(num_trials)]
    for i in range(num_trials):
        yield partial(writer.add_trial, trials[i])
        yield partial(writer.claim, i)
        yield partial(writer.record, measured(i))
        yield partial(writer.record, ended(i))


def ours_in_batches(url: str, name: str, num_trials: int) -> Calls:
    """The writes of a study, 32 trials at once."""
    writer = open_store(url).create_study(StudySpec(name=name, backbone="deit_pico", budget=Budget(high=0.65)))
    trials = [new_trial(number) for number in range(num_trials)]
    for first in range(0, num_trials, BATCH):
        batch = trials[first : first + BATCH]
        numbers = [trial.number for trial in batch]
        events = [event for number in numbers for event in (measured(number), ended(number))]
        yield partial(writer.add_trials, batch)
        yield partial(writer.claim_all, numbers)
        yield partial(writer.record_all, events)


def optunas(url: str, name: str, num_trials: int) -> Calls:
    """The same with Optuna's RDBStorage."""
    import optuna
    from optuna.distributions import FloatDistribution
    from optuna.storages import RDBStorage
    from optuna.trial import TrialState as State

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = RDBStorage(url.replace("postgresql://", "postgresql+psycopg://"))
    study = optuna.create_study(storage=storage, study_name=name, directions=["maximize", "minimize"])._study_id
    distributions = {key: FloatDistribution(0.0, 1.0) for key in PARAMS}
    template = optuna.trial.create_trial(state=State.WAITING, params={**PARAMS}, distributions={**distributions})
    for i in range(num_trials):
        yield partial(storage.create_new_trial, study, template)
        number = storage.get_trial_id_from_study_id_trial_number(study, i)
        yield partial(storage.set_trial_state_values, number, State.RUNNING)
        yield partial(storage.set_trial_intermediate_value, number, 0, 0.8 + i / 1e6)
        yield partial(storage.set_trial_state_values, number, State.COMPLETE, [0.8, 3e9])


WRITES: dict[str, Callable[[str, str, int], Calls]] = {
    "one by one": ours,
    "batches": ours_in_batches,
    "Optuna": optunas,
}


def work(kind: str, url: str, name: str, num_trials: int) -> None:
    """Write a study when told to; print when that began and ended, and the seconds of each call."""
    calls = iter(WRITES[kind](url, name, num_trials))
    first = next(calls)
    print("ready", flush=True)
    sys.stdin.readline()
    seconds = []
    began = time.time()
    refused = 0
    call: Callable[[], object] | None = first
    while call is not None:
        started = time.perf_counter()
        while True:
            try:
                call()
                break
            except Exception as error:
                if "StorageInternalError" not in type(error).__name__:
                    raise
                refused += 1  # Optuna: the database is locked
        seconds.append(time.perf_counter() - started)
        call = next(calls, None)
    print(json.dumps({"began": began, "ended": time.time(), "seconds": seconds, "refused": refused}), flush=True)


def written(kind: str, url: str, *, processes: int, num_trials: int) -> tuple[float, list[float], int]:
    """Trials a second of some processes together, the seconds of each of their calls, and the refused calls."""
    workers = []
    for i in range(processes):
        command = [sys.executable, __file__, "--work", kind, url, f"study-{i}", str(num_trials // processes)]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"  # one after the other: only one of them creates the tables
        workers.append(worker)
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    done: list[dict[str, Any]] = [json.loads(worker.communicate()[0]) for worker in workers]
    took = max(one["ended"] for one in done) - min(one["began"] for one in done)
    seconds = [seconds for one in done for seconds in one["seconds"]]
    return processes * (num_trials // processes) / took, seconds, sum(one["refused"] for one in done)


def raw_commits(folder: Path) -> float:
    """Commits a second of one row by SQLite alone, as durable."""
    import sqlite3

    connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "CREATE TABLE IF NOT EXISTS t (a TEXT)"):
        connection.execute(statement)
    started = time.perf_counter()
    for _ in range(500):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES (?)", ("x" * 500,))
        connection.execute("COMMIT")
    rate = 500 / (time.perf_counter() - started)
    connection.close()
    return rate


@contextmanager
def new_database(kind: str, folder: Path) -> Iterator[str]:
    """URL of an empty database."""
    if kind == "SQLite":
        with tempfile.TemporaryDirectory(dir=folder) as inner:
            yield f"sqlite:///{inner}/studies.db"
        return
    programs = postgres_programs()
    if programs is None:
        raise SystemExit("PostgreSQL's server is not installed; run: apt-get install postgresql")
    with PostgresServer(programs, durable=True).running() as url:
        yield url


def report_writes(folder: Path, *, num_trials: int, rounds: int) -> None:
    """Print the rates of writing."""
    print(
        f"{'database':11s} {'processes':>9s} {'kind':11s} {'trials/s':>9s} {'ms: median':>10s} {'p99':>7s} {'max':>7s}"
    )
    for database in ("SQLite", "PostgreSQL"):
        for processes in (1, 4):
            rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
            calls: dict[str, list[float]] = {kind: [] for kind in KINDS}
            failed = dict.fromkeys(KINDS, 0)
            raw = []
            for _ in range(rounds):
                raw.append(raw_commits(folder))
                for kind in KINDS:
                    with new_database(database, folder) as url:
                        rate, seconds, refused = written(kind, url, processes=processes, num_trials=num_trials)
                    rates[kind].append(rate)
                    calls[kind] += seconds
                    failed[kind] += refused
            for kind in KINDS:
                ms = sorted(1e3 * seconds for seconds in calls[kind])
                shown = f"{median(ms):10.2f} {ms[int(0.99 * len(ms))]:7.1f} {ms[-1]:7.0f}"
                note = f"  {failed[kind]} calls failed because the database was locked" if failed[kind] else ""
                print(f"{database:11s} {processes:9d} {kind:11s} {median(rates[kind]):9.0f} {shown}{note}", flush=True)
            print(f"{'':11s} meanwhile, commits a second of a row by SQLite alone: {median(raw):.0f}", flush=True)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--work", nargs=4, metavar=("KIND", "URL", "NAME", "TRIALS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work is not None:
        kind, url, name, num_trials = options.work
        work(kind, url, name, int(num_trials))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report_writes(Path(folder), num_trials=options.trials, rounds=options.rounds)


if __name__ == "__main__":
    main()
