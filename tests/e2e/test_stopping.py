"""Every way to stop a study: what its process returns, in which state the study is, and that no epoch is lost."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from answers import PROGRAM, Command

from sparsesearch.store.sql import open_store
from sparsesearch.study.trial import Trial, TrialState

pytestmark = pytest.mark.slow

TINY = {"epochs": 1, "images_per_epoch": 48, "batch_size": 24}
PATIENCE_S = 300.0
NAME = "long"


class Driver:
    """A process of `run` or `resume`, and what it prints.

    Args:
        arguments: The command line.
        home: The program's own folder.
    """

    def __init__(self, *arguments: str, home: Path) -> None:
        self._log = home.parent / f"{arguments[0]}-{time.time_ns()}.log"
        self._database = home / "studies.db"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(PROGRAM), *arguments, "--no-mlflow", "--progress", "jsonl"],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    @property
    def text(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def trains(self) -> None:
        """Wait until this process has measured two epochs of the supernet training."""
        self.wait_until(lambda: self.text.count('"event": "measured", "study": "long", "id": 1,') >= 2)

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not is_so():
            assert self.process.poll() is None, self.text
            assert time.monotonic() < end, self.text
            time.sleep(0.05)

    def code(self) -> int:
        return self.process.wait(PATIENCE_S)


@pytest.fixture(params=["inline", "ray"])
def dispatcher(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def document(home: Path, dispatcher: str) -> Path:
    """A study whose supernet training takes minutes, in short epochs."""
    supernet = {"epochs": 490, "images_per_epoch": 24, "batch_size": 24}
    fidelity = {"evaluations": 4, "finalists": 1, "dense": TINY, "supernet_training": supernet}
    path = Path("study.yaml")
    path.write_text(
        yaml.safe_dump(
            {
                "name": NAME,
                "backbone": "deit_pico",
                "budget": "40%",
                "data": {"num_val_images": 24},
                "precision": "float32",
                "device": "cpu",
                "dispatcher": dispatcher,
                "fidelity": {**fidelity, "finetune": TINY},
            }
        ),
        encoding="utf-8",
    )
    return path


def state_of(program: Command) -> str:
    return str(json.loads(program("status", NAME, "--json").out)["state"])


def is_resolving(home: Path) -> bool:
    if not (home / "studies.db").is_file():
        return False
    with sqlite3.connect(home / "studies.db") as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE name = 'studies'").fetchone()
        rows = connection.execute("SELECT state FROM studies").fetchall() if found else []
    connection.close()
    return rows == [("RESOLVING",)]


def supernet_of(home: Path) -> Trial:
    store = open_store(f"sqlite:///{home}/studies.db")
    trial = store.trials(NAME)[1]
    store.close()
    return trial


def check_nothing_lost(home: Path) -> None:
    """The last epoch that was measured has its checkpoint."""
    trial = supernet_of(home)
    assert trial.state is TrialState.RUNNING
    assert trial.checkpoint is not None
    assert trial.checkpoint.step == trial.epochs_done > 0


def pause(driver: Driver, program: Command, home: Path) -> None:
    paused = program("pause", NAME)
    assert (paused.code, driver.code()) == (0, 0), driver.text
    assert paused.out.startswith(f"study {NAME} is paused; resume with: ")
    assert state_of(program) == "PAUSED"
    check_nothing_lost(home)


def signalled(driver: Driver, program: Command, home: Path, number: signal.Signals) -> None:
    driver.process.send_signal(number)
    assert driver.code() == 128 + number, driver.text
    assert state_of(program) == "PAUSED"
    check_nothing_lost(home)
    assert f"sparsesearch resume {NAME}" in driver.text


def interrupt(driver: Driver, program: Command, home: Path) -> None:
    signalled(driver, program, home, signal.SIGINT)


def terminate(driver: Driver, program: Command, home: Path) -> None:
    signalled(driver, program, home, signal.SIGTERM)


def lose_lease(driver: Driver, program: Command, home: Path) -> None:
    with sqlite3.connect(home / "studies.db") as connection:  # as if another process had taken the study over
        connection.execute("UPDATE leases SET owner = 'another', generation = generation + 1")
    connection.close()
    assert driver.code() == 75, driver.text
    with sqlite3.connect(home / "studies.db") as connection:
        assert connection.execute("SELECT state, request FROM studies").fetchone() == ("RUNNING", None)
        connection.execute("UPDATE leases SET owner = NULL")
    connection.close()
    assert state_of(program) == "INTERRUPTED"


def kill(driver: Driver, program: Command, home: Path) -> None:
    driver.process.kill()
    driver.code()
    assert state_of(program) == "INTERRUPTED"


def stop(driver: Driver, program: Command, home: Path) -> None:
    assert program("stop", NAME, "--no-wait").out == f"study {NAME} is stopping\n"
    assert driver.code() == 0, driver.text
    assert state_of(program) == "PAUSED"
    assert "no results yet" in driver.text
    check_nothing_lost(home)


def cancel(driver: Driver, program: Command, home: Path) -> None:
    cancelled = program("cancel", NAME)
    assert (cancelled.out, driver.code()) == (f"study {NAME} is cancelled\n", 0), driver.text
    assert state_of(program) == "CANCELLED"
    check_nothing_lost(home)
    refused = program("resume", NAME)
    assert refused.code == 2
    assert "was cancelled and cannot be resumed" in refused.err


Way = Callable[[Driver, Command, Path], None]
EVERY: tuple[Way, ...] = (interrupt, terminate, pause, lose_lease, kill, stop, cancel)
# What differs between dispatchers is how a signal, a lost lease and one stored request end it; test_ray_kills kills it.
ON_RAY: tuple[Way, ...] = (interrupt, terminate, lose_lease, cancel)


@pytest.mark.parametrize(
    ("dispatcher", "ways"),
    [("inline", EVERY), ("ray", ON_RAY), pytest.param("ray", EVERY, marks=pytest.mark.long)],
    indirect=["dispatcher"],
    ids=["inline", "ray", "ray, every way"],
)
def test_every_way_to_stop(home: Path, program: Command, document: Path, ways: tuple[Way, ...]) -> None:
    """One study is stopped in every way, one after the other, and continued each time."""
    driver = Driver("run", str(document), home=home)
    driver.wait_until(lambda: is_resolving(home))
    driver.process.send_signal(signal.SIGINT)
    assert driver.code() == 130, driver.text
    assert state_of(program) == "PAUSED"
    for way in ways:
        driver = Driver("resume", NAME, home=home)
        driver.trains()
        if way is ways[0]:
            assert state_of(program) == "RUNNING"
        way(driver, program, home)


def test_time_that_is_over_finishes_a_study(home: Path, program: Command, document: Path) -> None:
    done = program("run", document, "--time-budget", "15s", "--no-mlflow", "--quiet")
    assert (done.code, done.err) == (0, "")
    assert state_of(program) == "FINISHED"
    assert Path(NAME, "best.yaml").is_file()
    again = program("resume", NAME, "--no-mlflow")
    assert again.code == 0
    assert "is finished; writing its files again" in again.err
    refused = program("pause", NAME)
    assert (refused.code, refused.err) == (
        2,
        f"sparsesearch: study '{NAME}' is finished, so there is nothing to pause\n",
    )


@pytest.mark.parametrize("dispatcher", ["inline"], indirect=True)  # on Ray: contract/test_ray_dispatcher
def test_a_paused_study_ends_as_if_it_had_not_been(home: Path, program: Command, document: Path) -> None:
    """A pause in the middle of the supernet training changes no trial."""
    text = document.read_text(encoding="utf-8").replace("epochs: 490", "epochs: 60")
    document.write_text(text, encoding="utf-8")
    Path("other.yaml").write_text(text.replace(f"name: {NAME}", "name: calm"), encoding="utf-8")
    driver = Driver("run", str(document), home=home)
    driver.trains()
    program("pause", NAME)
    assert driver.code() == 0
    assert program("resume", NAME, "--no-mlflow", "--quiet").code == 0
    assert program("run", "other.yaml", "--no-mlflow", "--quiet").code == 0
    store = open_store(f"sqlite:///{home}/studies.db")
    found, calm = ([trial.public() for trial in store.trials(name)] for name in (NAME, "calm"))
    store.close()
    assert found == calm
