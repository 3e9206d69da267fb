"""Several processes train what all other trials build on, and the study is that of one process."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from answers import PROGRAM, Command

from sparsesearch.store.sql import open_store
from sparsesearch.study.trial import Fidelity, Trial, TrialState

pytestmark = pytest.mark.slow

DOCUMENT = {
    "backbone": "deit_pico",
    "budget": {"unit": "fraction", "high": 0.35},
    "precision": "float32",
    "device": "cpu",
    "data": {"num_val_images": 240},
    "fidelity": {
        "evaluations": 2,
        "finalists": 1,
        "dense": {"epochs": 3, "images_per_epoch": 1024},
        "supernet_training": {"epochs": 2, "images_per_epoch": 1024},
        "finetune": {"epochs": 1, "images_per_epoch": 128},
    },
    "resources": {"cpus_per_trial": 0.5, "max_concurrent": 2},
}
TOGETHER = {**DOCUMENT, "resources": {**DOCUMENT["resources"], "workers_per_training": 2}}
PATIENCE_S = 600.0


def references(home: Path, name: str) -> list[Trial]:
    store = open_store(f"sqlite:///{home}/studies.db")
    return [trial for trial in (store.trials(name) if name in store.studies() else ()) if trial.fidelity.runs_alone]


def losses(trials: list[Trial]) -> list[float]:
    return [measurement.metrics["train_loss"] for trial in trials for measurement in trial.measurements]


def workers() -> list[int]:
    """The processes that train together."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if b"RayTrainWorker" in command and f"HOME={os.environ['SPARSESEARCH_HOME']}" in environment(entry):
                found.append(int(entry.name))
        except OSError:
            continue  # it ended meanwhile
    return sorted(found)


def environment(process: Path) -> str:
    return (process / "environ").read_bytes().decode(errors="replace")


def start(name: str, document: dict[str, object]) -> subprocess.Popen[bytes]:
    Path(f"{name}.yaml").write_text(yaml.safe_dump({"name": name, **document}))
    return subprocess.Popen(
        [PROGRAM, "run", f"{name}.yaml", "--no-mlflow"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors.decode()


def wait_for_epoch(home: Path, name: str, fidelity: Fidelity, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not any(trial.fidelity is fidelity and trial.measurements for trial in references(home, name)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The losses of a study whose trainings have one process, in a home of its own, so that nothing is shared."""
    other = home.with_name("alone")
    with monkeypatch.context() as patch:
        patch.setenv("SPARSESEARCH_HOME", str(other))
        finish(start("alone", {**DOCUMENT, "dispatcher": "inline"}))
    return losses(references(other, "alone"))


def test_a_process_is_killed_and_the_study_stopped_and_the_losses_are_those_of_one_process(
    home: Path, program: Command, alone: list[float]
) -> None:
    process = start("together", TOGETHER)
    wait_for_epoch(home, "together", Fidelity.DENSE, process)
    both = workers()
    assert len(both) == 2
    os.kill(both[1], signal.SIGKILL)
    wait_for_epoch(home, "together", Fidelity.SUPERNET_TRAINING, process)
    assert program("pause", "together").code == 0
    finish(process)
    assert program("status", "together", "--json").document["state"] == "PAUSED"
    assert not workers()
    assert [trial.attempt for trial in references(home, "together")] == [2, 1]
    assert program("resume", "together", "--no-mlflow", "--dispatcher", "inline", timeout=PATIENCE_S).code == 0
    trained = references(home, "together")
    assert [trial.state for trial in trained] == [TrialState.REFERENCE] * 2
    assert losses(trained) == pytest.approx(alone, rel=1e-4)
