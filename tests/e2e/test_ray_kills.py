"""A study on Ray is unharmed by kill -9 of its processes, and by Ctrl-C."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from ray_study import calm, check_complete, finish, notes_of, nothing_outlives, processes, start, trials_of, wait_for

from sparsesearch.study.trial import Fidelity, TrialState

__all__ = ["calm", "nothing_outlives"]  # fixtures of the tests below

pytestmark = pytest.mark.slow


def test_killed_worker_processes_are_replaced(tmp_path: Path) -> None:
    driver = start(tmp_path)
    for fidelity in ("dense", "supernet", "finetune"):
        wait_for(tmp_path, lambda notes, f=fidelity: any(note.fidelity == f for note in notes), driver)
        worker = next(note.pid for note in reversed(notes_of(tmp_path)) if note.fidelity == fidelity)
        os.kill(worker, signal.SIGKILL)
    finish(driver)
    trials = check_complete(tmp_path)
    retried = [trial for trial in trials if trial.attempt > 1]
    assert {trial.fidelity for trial in retried} >= {Fidelity.DENSE, Fidelity.FINETUNE}
    assert all("the worker process died" in (trial.reason or "") for trial in retried)


def gaps() -> list[int]:
    """After how many notes the driver is killed, each time counted from its start."""
    draw = random.Random(11).randint
    return [draw(1, 5) for _ in range(10)]


def test_killed_driver_goes_on(calm: Path, tmp_path: Path) -> None:
    """Killed with -9 ten times, each time resumed: nothing lost, doubled or stuck, little repeated."""
    under_way: Counter[int] = Counter()
    for kill, gap in enumerate(gaps()):
        before = len(notes_of(tmp_path)) if (tmp_path / "notes").exists() else 0
        driver = start(tmp_path)
        wait_for(tmp_path, lambda notes, n=before + gap: len(notes) >= n, driver)
        driver.kill()
        driver.wait()
        recorded = trials_of(tmp_path)
        under_way.update(trial.number for trial in recorded if trial.state is TrialState.RUNNING)
        if kill == 0:  # later ones are resumed while Ray's processes are still ending themselves
            while processes():
                time.sleep(0.1)
            assert trials_of(tmp_path) == recorded, "workers of a dead driver write nothing"
    finish(start(tmp_path))
    trials = check_complete(tmp_path)
    assert {trial.attempt for trial in trials} == {1}
    for mine, theirs in zip(trials[:2], trials_of(calm)[:2], strict=True):
        assert [m.metrics for m in mine.measurements] == [m.metrics for m in theirs.measurements]
    measured = Counter((note.trial, note.step) for note in notes_of(tmp_path) if note.what == "measured")
    repeated: Counter[int] = Counter()
    for (number, _), times in measured.items():
        repeated[number] += times - 1
    for number, times in repeated.items():
        assert times <= under_way[number], "at most one epoch is repeated each time that a trial is interrupted"


def test_ctrl_c_stops_where_nothing_is_lost(tmp_path: Path) -> None:
    driver = start(tmp_path)
    wait_for(tmp_path, lambda notes: any(note.fidelity == "finetune" for note in notes), driver)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=120) == 130
    running = [trial for trial in trials_of(tmp_path) if trial.state is TrialState.RUNNING]
    assert running
    assert all(trial.checkpoint is not None and trial.checkpoint.step == trial.epochs_done for trial in running)
    finish(start(tmp_path))
    check_complete(tmp_path)
    epochs = Counter((n.trial, n.step) for n in notes_of(tmp_path) if n.what == "measured")
    assert set(epochs.values()) == {1}
