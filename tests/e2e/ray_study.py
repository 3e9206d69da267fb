"""A small study on Ray in a process of its own: started, watched, and found complete."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray_driver
from noting import Note, read_notes

import sparsesearch
from sparsesearch.store.sql import open_store
from sparsesearch.study.trial import Fidelity, Trial, TrialState

HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "RAY_AUTH_MODE": "token",  # as docs/ray.md has it for several machines
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "PYTHONPATH": os.pathsep.join([str(HERE), str(Path(sparsesearch.__file__).parents[1])]),
}
MARK = f"SPARSESEARCH_TEST={os.getpid()}"
FINAL = {TrialState.COMPLETE, TrialState.REFERENCE}
MEET_S = 120.0


def processes() -> dict[int, str]:
    """All processes that carry this test's mark in their environment, with their names."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and MARK.encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it ended meanwhile
    return {pid: name for pid, name in found.items() if name and pid != os.getpid()}


@pytest.fixture(autouse=True)
def nothing_outlives() -> Iterator[None]:
    """No process of a test is there when it has ended, whatever was killed."""
    yield
    deadline = time.monotonic() + 60
    while processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    left = processes()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def start(home: Path, *arguments: str, cwd: Path | None = None, meet_s: float = 0.0) -> subprocess.Popen[bytes]:
    environment = {**ENVIRONMENT, "SPARSESEARCH_TEST": MARK.partition("=")[2], "MEET_S": str(meet_s)}
    command = [sys.executable, str(HERE / "ray_driver.py"), str(home), *arguments]
    return subprocess.Popen(
        command,
        env=environment,
        cwd=cwd,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a job may ignore it
    )


def finish(driver: subprocess.Popen[bytes]) -> None:
    """Wait for a driver that should end well."""
    _, errors = driver.communicate(timeout=600)
    assert driver.returncode == 0, errors.decode()


def notes_of(home: Path) -> list[Note]:
    return read_notes(home / "notes")


def trials_of(home: Path) -> list[Trial]:
    return list(open_store(f"sqlite:///{home}/studies.db").trials(ray_driver.NAME))


def wait_for(home: Path, wanted: Callable[[list[Note]], bool], driver: subprocess.Popen[bytes]) -> None:
    while not wanted(notes_of(home)):
        assert driver.poll() is None, "the driver ended before"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home of a study on Ray that was left alone."""
    home = tmp_path_factory.mktemp("calm")
    finish(start(home, meet_s=MEET_S))
    return home


def check_complete(home: Path) -> list[Trial]:
    """No trial lost, none doubled, none stuck."""
    trials = trials_of(home)
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert {trial.state for trial in trials} == FINAL
    assert len({(trial.fidelity, trial.key) for trial in trials}) == len(trials)
    counts = Counter(trial.fidelity for trial in trials)
    assert counts == {
        Fidelity.DENSE: 1,
        Fidelity.SUPERNET_TRAINING: 1,
        Fidelity.SUPERNET: 6,
        Fidelity.RESCORED: 4,
        Fidelity.FINETUNE: 5,
    }
    for trial in trials:
        steps = [0] if trial.fidelity in (Fidelity.SUPERNET, Fidelity.RESCORED) else [1, 2]
        assert [measurement.step for measurement in trial.measurements] == steps
    return trials
