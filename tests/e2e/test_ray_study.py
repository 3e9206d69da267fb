"""A real study on Ray: in parallel, equal to one run inline, and over two machines."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import ray_driver
import torch
from ray_nodes import two_nodes
from ray_study import (
    ENVIRONMENT,
    MARK,
    MEET_S,
    calm,
    check_complete,
    finish,
    notes_of,
    nothing_outlives,
    start,
    trials_of,
)

from sparsesearch.evaluate.opening import open_evaluator, portable_evaluator
from sparsesearch.study.trial import TrialState

__all__ = ["calm", "nothing_outlives"]  # fixtures of the tests below

pytestmark = pytest.mark.slow


def test_trials_overlap_in_processes_of_their_own(calm: Path) -> None:
    check_complete(calm)
    assert os.getpid() not in {note.pid for note in notes_of(calm)}
    spans: dict[int, list[float]] = {}
    for note in notes_of(calm):
        if note.fidelity == "finetune":
            spans.setdefault(note.trial, []).append(note.at)
    ends = [(min(times), max(times)) for times in spans.values()]
    assert max(sum(start <= moment <= end for start, end in ends) for moment, _ in ends) == 2
    for fidelity in ("supernet", "finetune"):
        assert len({note.pid for note in notes_of(calm) if note.fidelity == fidelity}) == 2


def test_results_are_those_of_the_inline_dispatcher(calm: Path, tmp_path: Path) -> None:
    """Every trial of the parallel study, evaluated again one by one in this process, gives the same numbers."""
    torch.set_num_threads(1)
    spec = ray_driver.open_or_create(calm)
    recipe = portable_evaluator(spec, storage=tmp_path / "storage", cache=tmp_path / "cache", elapsed_s=0.0)
    evaluator = open_evaluator(recipe.document)
    for trial in trials_of(calm):
        fresh = trial.model_copy(update={"measurements": (), "checkpoint": None, "state": TrialState.RUNNING})
        events = list(evaluator.evaluate(fresh))
        found = {event.measurement.step: event.measurement.metrics for event in events if event.kind == "measured"}
        assert found == {measurement.step: measurement.metrics for measurement in trial.measurements}, trial.label


def test_study_over_two_nodes(tmp_path: Path) -> None:
    for name in ("a", "b", "home"):
        (tmp_path / name).mkdir()
    environment = {**ENVIRONMENT, "SPARSESEARCH_TEST": MARK.partition("=")[2]}
    with two_nodes(tmp_path, environment=environment, cwds=(tmp_path / "a", tmp_path / "b")) as (address, _):
        # A path that is another folder in each process, as one that is not mounted everywhere.
        driver = start(tmp_path / "home", address, "/proc/self/cwd/storage", cwd=tmp_path / "a")
        _, errors = driver.communicate(timeout=300)
        complaint = errors.decode().splitlines()[-1]
        assert driver.returncode == 1
        assert re.fullmatch(r".*ClusterError: the storage /proc/self/cwd/storage is not shared with .*", complaint)
        assert {trial.state for trial in trials_of(tmp_path / "home")} <= {TrialState.WAITING}
        assert list((tmp_path / "a/storage").iterdir()) == [], "the probe is taken away"

        finish(start(tmp_path / "home", address, meet_s=MEET_S))
        trials = check_complete(tmp_path / "home")
        assert {trial.attempt for trial in trials} == {1}
    nodes = {note.node for note in notes_of(tmp_path / "home") if note.fidelity == "finetune"}
    assert len(nodes) == 2
