"""A study on Ray is unharmed by kill -9 of its workers, and by Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from ray_study import check_complete, finish, notes_of, nothing_outlives, start, trials_of, wait_for

from sparsesearch.study.trial import Fidelity, TrialState

__all__ = ["nothing_outlives"]  # a fixture of the tests below

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
