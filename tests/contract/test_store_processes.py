"""Controllers in processes of their own: rivals, killed ones, and ones that wake up too late."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from queued import new

from sparsesearch.errors import StudyBusyError
from sparsesearch.store.sql import open_store
from sparsesearch.store.tables import CLOCK_COLUMNS, metadata
from sparsesearch.study.events import Ended, Measured
from sparsesearch.study.spec import Budget, StudySpec
from sparsesearch.study.trial import Fidelity, Measurement, TrialState

# A controller that is led by lines on its standard input and answers each with one line.
CONTROLLER = """
import sys
from sparsesearch.errors import SparseSearchError
from sparsesearch.store.sql import open_store
from sparsesearch.study.events import EVENT
store = open_store(sys.argv[1], lease_s=float(sys.argv[2]))
print("ready", flush=True)
for line in sys.stdin:
    verb, _, rest = line.strip().partition(" ")
    try:
        if verb == "open":
            writer = store.open_study("digits")
        elif verb == "claim":
            writer.claim(int(rest))
        elif verb == "record":
            writer.record(EVENT.validate_json(rest))
        print("done", flush=True)
    except SparseSearchError as error:
        print(type(error).__name__, error, flush=True)
"""


# A controller that reports epoch after epoch and says each step aloud once it is recorded.
WRITER = """
import sys
from sparsesearch.store.sql import open_store
from sparsesearch.study.events import EVENT
writer = open_store(sys.argv[1]).open_study("digits")
trial = writer.claim(0)
template = sys.argv[2]
for step in range(trial.epochs_done + 1, 100_000):
    writer.record(EVENT.validate_json(template.replace('"step":1', f'"step":{step}')))
    print(step, flush=True)
"""


class Controller:
    def __init__(self, url: str, lease_s: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CONTROLLER, url, str(lease_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line: str) -> str:
        self.tell(line)
        return self.answer()


@contextmanager
def controllers(url: str, *, num: int = 1, lease_s: float = 60.0) -> Iterator[list[Controller]]:
    started = [Controller(url, lease_s) for _ in range(num)]
    try:
        assert [controller.answer() for controller in started] == ["ready"] * num
        yield started
    finally:
        for controller in started:
            controller.process.kill()
            controller.process.communicate()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/studies.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def study(url: str) -> str:
    """Url of a database with one waiting trial, opened by nobody."""
    store = open_store(url)
    writer = store.create_study(StudySpec(name="digits", backbone="deit_pico", budget=Budget(high=0.65)))
    for number in range(2):
        writer.add_trial(new(number))
    writer.close()
    store.close()
    return url


def measured(step: int, *, number: int = 0) -> Measured:
    measurement = Measurement(
        step=step, attempt=1, fidelity=Fidelity.FINETUNE, metrics={"val_top1": step / 7}, seconds=0.1, seed=1
    )
    return Measured(trial=number, attempt=1, measurement=measurement)


def test_one_of_two_processes_gets_the_study(study: str) -> None:
    with controllers(study, num=2) as pair:
        for controller in pair:
            controller.tell("open")
        answers = sorted(controller.answer() for controller in pair)
        assert answers[0].startswith("StudyBusyError study 'digits' is being run by process")
        assert answers[1] == "done"


def test_new_databases_are_made_once(url: str) -> None:
    with controllers(url, num=4) as several:
        for controller in several:
            assert controller.ask("open").startswith("StudyNotFoundError")


def test_a_killed_controller_loses_the_study_at_once_and_no_number(study: str) -> None:
    with controllers(study) as (controller,):
        for line in ("open", "claim 0", f"record {measured(1).model_dump_json()}"):
            assert controller.ask(line) == "done"
        store = open_store(study)
        with pytest.raises(StudyBusyError):
            store.open_study("digits")
        controller.process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, controller.process.pid, os.WEXITED | os.WNOWAIT)  # dead, but still in the process table
        writer = store.open_study("digits")
        assert [item.step for item in writer.trials()[0].measurements] == [1]
        assert writer.claim(0).attempt == 1
        writer.record(measured(2))
        store.close()


def test_numbers_that_were_recorded_survive_a_kill_at_any_moment(study: str) -> None:
    chance = random.Random(5)
    said = [0]
    for _ in range(4):
        command = [sys.executable, "-c", WRITER, study, measured(1).model_dump_json()]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            said.append(int(writer.stdout.readline()))
            time.sleep(chance.uniform(0.0, 0.1))
            writer.kill()
            said += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
    store = open_store(study)
    steps = [item.step for item in store.trials("digits")[0].measurements]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= max(said)
    assert sorted(set(said)) == said, "a step was recorded twice"
    store.close()


def test_a_controller_that_slept_through_its_lease_is_refused(study: str) -> None:
    with controllers(study, lease_s=0.5) as (zombie,):
        assert zombie.ask("open") == "done"
        assert zombie.ask("claim 0") == "done"
        zombie.process.send_signal(signal.SIGSTOP)
        time.sleep(0.7)
        store = open_store(study)
        writer = store.open_study("digits")
        writer.claim(0)
        writer.record(measured(1))
        before = writer.trials()
        zombie.process.send_signal(signal.SIGCONT)
        assert zombie.ask(f"record {measured(2).model_dump_json()}").startswith("StaleAttemptError ")
        assert zombie.ask("claim 1").startswith("StaleAttemptError")
        assert writer.trials() == before
        writer.record(measured(2))
        store.close()


def work(url: str, *, killed_after: int | None) -> dict[str, list[tuple[object, ...]]]:
    """Run two trials of three epochs and return the tables without clocks; resume once if killed on the way."""
    lines = []
    for number in range(2):
        lines.append(f"claim {number}")
        lines += [f"record {measured(step, number=number).model_dump_json()}" for step in (1, 2, 3)]
        lines.append(f"record {Ended(trial=number, attempt=1, state=TrialState.COMPLETE).model_dump_json()}")
    done = 0
    if killed_after is not None:
        with controllers(url) as (controller,):
            for line in ["open", *lines[:killed_after]]:
                assert controller.ask(line) == "done"
            controller.process.kill()
            controller.process.wait()
        done = killed_after - 1  # the last answer may not have been heard, so that line is said again
    with controllers(url) as (controller,):
        assert controller.ask("open") == "done"
        for line in lines[done:]:
            assert controller.ask(line) == "done"
    store = open_store(url)
    tables: dict[str, list[tuple[object, ...]]] = {}
    with store._database.reading() as connection:
        for table in metadata.sorted_tables:
            columns = [column for column in table.columns if column.name not in CLOCK_COLUMNS[table.name]]
            if columns:
                rows = connection.execute(table.select().with_only_columns(*columns).order_by(*table.primary_key))
                tables[table.name] = [tuple(row) for row in rows]
    store.close()
    return tables


@pytest.mark.parametrize("killed_after", [1, 2, 4, 5, 8])
def test_a_killed_study_ends_with_the_same_bytes(tmp_path: Path, killed_after: int) -> None:
    results = []
    for name, kill in (("calm", None), ("killed", killed_after)):
        url = f"sqlite:///{tmp_path}/{name}.db"
        store = open_store(url)
        writer = store.create_study(StudySpec(name="digits", backbone="deit_pico", budget=Budget(high=0.65)))
        for number in range(2):
            writer.add_trial(new(number))
        writer.close()
        store.close()
        results.append(work(url, killed_after=kill))
    calm, killed = results
    assert {"studies", "trials", "measurements", "hits", "profiles"} < set(calm)
    assert len(calm["measurements"]) == 6
    assert repr(calm) == repr(killed)
