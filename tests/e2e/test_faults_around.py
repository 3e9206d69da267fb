"""What fails around a study on Ray is noticed, and the study goes on: real processes that are killed or stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from answers import PROGRAM, Command
from processes import children

from sparsesearch.store.sql import open_store
from sparsesearch.study.trial import Trial, TrialState

pytestmark = pytest.mark.slow

DOCUMENT = {
    "name": "around",
    "backbone": "deit_pico",
    "budget": {"unit": "fraction", "high": 0.35},
    "precision": "float32",
    "device": "cpu",
    "data": {"num_val_images": 120},
    "baselines": False,
    "fidelity": {
        "evaluations": 2,
        "finalists": 1,
        "dense": {"epochs": 6, "images_per_epoch": 2000},
        "supernet_training": {"epochs": 1, "images_per_epoch": 128},
        "finetune": {"epochs": 1, "images_per_epoch": 64},
    },
    "resources": {"max_concurrent": 1},
}
PATIENCE_S = 400.0


class Run:
    """`sparsesearch run` of the study, in a home of its own."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home = home
        Path("around.yaml").write_text(yaml.safe_dump(DOCUMENT))
        self.log = Path("log.txt")
        with self.log.open("w") as log:
            command = [PROGRAM, "run", "around.yaml", "--no-mlflow", *options]
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)

    def trials(self) -> list[Trial]:
        store = open_store(f"sqlite:///{self.home}/studies.db")
        return list(store.trials("around")) if "around" in store.studies() else []

    def wait_for(self, what: Callable[[list[Trial]], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not what(self.trials()):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def server(self, name: str) -> int:
        """Process id of one of the servers of Ray that the run has started."""
        (found,) = children(self.process.pid, name)
        return found

    def worker(self) -> int:
        """Process id of the worker that runs a trial."""
        (beat,) = self.home.glob("storage/*/work/*.beat")
        return int(beat.stem.rpartition("-")[2])

    def finish(self) -> str:
        self.process.wait(timeout=PATIENCE_S)
        return self.log.read_text()


def in_its_second_epoch(trials: list[Trial]) -> bool:
    return bool(trials) and bool(trials[0].measurements)


def check_complete(run: Run) -> None:
    trials = run.trials()
    assert len(trials) == 7  # dense, supernet, two screened, the same two again on other images, one finalist
    assert all(trial.state in (TrialState.REFERENCE, TrialState.COMPLETE) for trial in trials)
    assert [m.step for m in trials[0].measurements] == [1, 2, 3, 4, 5, 6]


def test_a_worker_that_hangs_is_replaced(home: Path) -> None:
    run = Run(home, "--worker-timeout", "15s")
    run.wait_for(in_its_second_epoch)
    os.kill(run.worker(), signal.SIGSTOP)
    log = run.finish()
    assert run.process.returncode == 0, log
    assert "trial 0 has shown no sign of life for" in log
    check_complete(run)
    assert [trial.attempt for trial in run.trials()][:2] == [2, 1]


@pytest.mark.long  # `make chaos` kills one too
def test_a_killed_raylet_is_replaced(home: Path) -> None:
    run = Run(home)
    run.wait_for(in_its_second_epoch)
    os.kill(run.server("raylet"), signal.SIGKILL)
    log = run.finish()
    assert run.process.returncode == 0, log
    assert "the Ray process of this machine (raylet) has ended or hangs; trying again for 10 min" in log
    assert "going on after" in log
    check_complete(run)


@pytest.mark.long
def test_a_driver_that_was_stopped_itself_does_not_take_the_cluster_for_lost(home: Path) -> None:
    run = Run(home)
    run.wait_for(in_its_second_epoch)
    run.process.send_signal(signal.SIGSTOP)
    time.sleep(40.0)
    run.process.send_signal(signal.SIGCONT)
    log = run.finish()
    assert run.process.returncode == 0, log
    assert "does not answer" not in log
    assert "no sign of life" not in log
    check_complete(run)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
@pytest.mark.long
def test_a_cluster_that_does_not_answer_ends_the_run_and_the_study_goes_on(
    home: Path, program: Command, number: signal.Signals
) -> None:
    run = Run(home)
    run.wait_for(in_its_second_epoch)
    os.kill(run.server("gcs_server"), number)
    at = time.monotonic()
    log = run.finish()
    assert run.process.returncode == 75, log
    assert time.monotonic() - at < 90.0
    assert "the Ray cluster does not answer" in log
    assert program("status", "around", "--json").document["state"] == "PAUSED"
    assert program("resume", "around", "--no-mlflow", "--dispatcher", "inline", timeout=PATIENCE_S).code == 0
    check_complete(run)
