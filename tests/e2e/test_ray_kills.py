"""A study on Ray is unharmed by kill -9 of its driver."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest
from ray_study import calm, check_complete, finish, notes_of, nothing_outlives, processes, start, trials_of, wait_for

from sparsesearch.study.trial import TrialState

__all__ = ["calm", "nothing_outlives"]  # fixtures of the tests below

pytestmark = pytest.mark.slow


def gaps(kills: int) -> list[int]:
    """After how many notes the driver is killed, each time counted from its start."""
    draw = random.Random(11).randint
    return [draw(1, 5) for _ in range(kills)]


@pytest.mark.parametrize("kills", [4, pytest.param(10, marks=pytest.mark.long)])
def test_killed_driver_is_resumed(calm: Path, tmp_path: Path, kills: int) -> None:
    """Killed with -9 again and again, each time resumed: nothing lost, doubled or stuck, little repeated."""
    under_way: Counter[int] = Counter()
    for kill, gap in enumerate(gaps(kills)):
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
