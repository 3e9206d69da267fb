"""What large studies cost to look at and to resume, in a database of 1,000 studies and 1,000,000 trials.

    OMP_NUM_THREADS=1 python benchmarks/store_reading.py [--trials 100000] [--folder FOLDER] [--rounds 5]

The largest study has 100,000 finished evaluations, the others have 900 each. Commands run in processes of their own, in
turn; seconds are medians, memory is the largest resident size. FOLDER needs 2 GB.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from sample_study import DEIT_SMALL, sample_spec
from sqlalchemy import text

from sparsesearch.schedule import Schedule
from sparsesearch.search.controller import StagedController
from sparsesearch.store.sql import SqlStore, open_store
from sparsesearch.study.events import Ended, Event, Measured
from sparsesearch.study.numbers import Numbers
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.spec import FidelitySpec, StudySpec
from sparsesearch.study.trial import Cost, Fidelity, Measurement, NewTrial, Origin, Proposal, TrialState

BATCH = 500
PROGRAM = """
import atexit, sys, time
def report():
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(time.process_time(), peak, file=sys.stderr)
atexit.register(report)
if len(sys.argv) > 1:
    from sparsesearch.cli import main
    main()
else:
    import pydantic, sqlalchemy
"""


def spec_of(name: str, num_trials: int) -> StudySpec:
    """A study that needs no supernet, so that its trials are evaluations after the dense model."""
    fidelity = FidelitySpec(strategy="training-free", evaluations=num_trials + 1000)
    return sample_spec(name).model_copy(update={"fidelity": fidelity, "baselines": False, "sampler": "evolution"})


def trial_of(number: int, chance: random.Random) -> NewTrial:
    """The dense model, or a proposal that has seen all trials before it."""
    if number == 0:
        return NewTrial(
            number=0,
            fidelity=Fidelity.DENSE,
            origin=Origin.REFERENCE,
            label="dense",
            schedule=Schedule(),
            key="d" * 32,
            cost=Cost(macs=4_600_000_000, params=22_000_000),
            seed=0,
        )
    count = 60 + number % 130
    return NewTrial(
        number=number,
        fidelity=Fidelity.UNTRAINED,
        origin=Origin.SEARCH,
        label="search",
        schedule=Schedule.at([3, 6, 9], [count / 196, 0.7 * count / 196, 0.5 * count / 196]),
        key=f"{number:032x}",
        cost=Cost(macs=2_000_000_000 + 10_000_000 * count + chance.randrange(10_000_000), params=22_000_000),
        seed=number,
        proposal=Proposal(
            index=number,
            seed=number,
            seen=Numbers.of([[0, number - 1]]),
            params={f"x{i}": chance.random() for i in range(12)},
        ),
    )


def events_of(trial: NewTrial, chance: random.Random) -> list[Event]:
    """Its measurement and its end."""
    is_dense = trial.fidelity is Fidelity.DENSE
    top1 = 0.8 if is_dense else 0.7 + (trial.number % 130) / 2600 + chance.gauss(0.0, 0.01)
    measurement = Measurement(
        step=int(is_dense),
        attempt=1,
        fidelity=trial.fidelity,
        metrics={"val_top1": top1, "val_images": 1200.0},
        seconds=0.1,
        seed=trial.seed,
    )
    state = TrialState.REFERENCE if is_dense else TrialState.COMPLETE
    return [
        Measured(trial=trial.number, attempt=1, measurement=measurement),
        Ended(trial=trial.number, attempt=1, state=state),
    ]


def add_study(store: SqlStore, name: str, num_trials: int) -> None:
    """A study with so many finished trials."""
    chance = random.Random(0)
    writer = store.create_study(spec_of(name, num_trials))
    for first in range(0, num_trials, BATCH):
        trials = [trial_of(number, chance) for number in range(first, min(num_trials, first + BATCH))]
        writer.add_trials(trials)
        writer.claim_all([trial.number for trial in trials])
        writer.record_all([event for trial in trials for event in events_of(trial, chance)])
    writer.close()


def copy_study(store: SqlStore, name: str, copies: int) -> None:
    """Studies with the same trials as another, copied by the database."""
    with store._database.writing() as connection:
        for table in ("studies", "leases", "trials", "measurements"):
            columns = [row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table})")]
            changed = {"id": "1000 + n", "study_id": "1000 + n", "name": "'copy-' || n", "uid": "hex(randomblob(16))"}
            values = ", ".join(changed.get(column, column) for column in columns)
            key = "id" if table == "studies" else "study_id"
            connection.execute(
                text(
                    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < :copies) "
                    f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM c, {table} "
                    f"WHERE {key} = (SELECT id FROM studies WHERE name = :name)"
                ),
                {"copies": copies, "name": name},
            )


def measured_command(arguments: list[str], home: Path) -> tuple[float, float, float]:
    """Elapsed seconds, processor seconds and megabytes of a process."""
    started = time.perf_counter()
    environment = {**os.environ, "SPARSESEARCH_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    elapsed = time.perf_counter() - started
    cpu, kilobytes = done.stderr.splitlines()[-1].split()
    return elapsed, float(cpu), int(kilobytes) / 1024


def report_commands(home: Path, *, rounds: int, num_trials: int) -> None:
    """Print seconds and megabytes of the commands that show studies."""
    commands = {
        "pydantic and sqlalchemy imported": [],
        "status": ["status", "large"],
        "trials, first page": ["trials", "large"],
        "trials, last page": ["trials", "large", "--offset", str(num_trials - 100)],
        "front": ["front", "large"],
        "front, with a picture": ["front", "large", "--png", str(home / "front.png")],
        "report": ["report", "large", "-o", str(home / "report.html")],
        "show": ["show", "large"],
        "studies": ["studies"],
    }
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, arguments in commands.items():
            found[name].append(measured_command(arguments, home))
    print(f"{'':34s} {'elapsed':>9s} {'CPU':>8s} {'memory':>9s}")
    for name, samples in found.items():
        elapsed, cpu = median(sample[0] for sample in samples), median(sample[1] for sample in samples)
        print(f"{name:34s} {elapsed:7.2f} s {cpu:6.2f} s {max(sample[2] for sample in samples):6.0f} MB", flush=True)


def report_resume(store: SqlStore, name: str) -> None:
    """Print how long it takes to resume a study, and to ask for, store and tell trials after that."""
    started = time.perf_counter()
    writer = store.open_study(name)
    trials = writer.trials()
    loaded = time.perf_counter()
    controller = StagedController(writer.spec, DEIT_SMALL)
    for trial in trials:
        controller.tell(trial)
    asked = controller.ask()
    ready = time.perf_counter()
    print(f"resume {len(trials):6d} trials: load {loaded - started:.2f} s, to the first trial {ready - started:.2f} s")
    chance, seconds = random.Random(1), []
    assert isinstance(asked, NewTrial)
    for _ in range(100):
        one_trial(controller, writer, asked, chance)
        begun = time.perf_counter()
        asked = controller.ask()
        assert isinstance(asked, NewTrial)
        one_trial(controller, writer, asked, chance)
        seconds.append(time.perf_counter() - begun)
        asked = controller.ask()
        assert isinstance(asked, NewTrial)
    print(f"  then ask, add, claim, record and tell: median {1e3 * median(seconds):.1f} ms a trial", flush=True)
    writer.close()


def one_trial(controller: StagedController, writer: StudyWriter, asked: NewTrial, chance: random.Random) -> None:
    """Store a trial and its result, and tell the controller."""
    writer.add_trial(asked)
    writer.claim(asked.number)
    controller.tell(writer.record_all(events_of(asked, chance))[-1])


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        home = Path(folder)
        store = open_store(f"sqlite:///{home}/studies.db")
        for name, num_trials in (("large", options.trials), ("five", 5000), ("ten", 10_000), ("small", 900)):
            add_study(store, name, num_trials)
        copy_study(store, "small", 996)
        counts = [summary.num_trials for summary in store.summaries()]
        size = (home / "studies.db").stat().st_size / 1e9
        print(f"{len(counts):,} studies, {sum(counts):,} trials, {size:.2f} GB")
        report_commands(home, rounds=options.rounds, num_trials=options.trials)
        for name in ("five", "ten"):
            report_resume(store, name)
        store.close()


if __name__ == "__main__":
    main()
