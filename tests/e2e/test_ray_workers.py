"""A study on Ray is unharmed by kill -9 of its workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from ray_study import check_complete, finish, notes_of, nothing_outlives, start, wait_for

from sparsesearch.study.trial import Fidelity

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
