"""Rungs through the real Ray Tune, on results from a table: who is stopped is what the rule says of the stored rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cluster import local_cluster
from sample_study import prepared
from tabled import tabled
from test_ray_dispatcher import GEOMETRY

from sparsesearch.dispatch.tune import RayDispatcher
from sparsesearch.search.controller import StagedController
from sparsesearch.search.rung_ranking import goes_on
from sparsesearch.store.memory import MemoryStore
from sparsesearch.study.spec import Budget, FidelitySpec, ResourceSpec, RungSpec, StudySpec, TrainSpec
from sparsesearch.study.trial import Origin, Trial, TrialState

pytestmark = pytest.mark.slow

FACTOR = 2


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """For all tests of the module."""
    with local_cluster():
        yield


@pytest.mark.parametrize("budget", [Budget(high=0.5), Budget(low=0.3, high=0.6)], ids=["asha", "mo-asha"])
def test_tune_stops_whom_the_rule_stops(budget: Budget, tmp_path: Path) -> None:
    """One trial at a time, so that each meets at its rungs exactly the trials of lower numbers that got there."""
    spec = StudySpec(
        name="study",
        backbone=GEOMETRY.name,
        budget=budget,
        fidelity=FidelitySpec(
            strategy="finetune",
            evaluations=14,
            finetune=TrainSpec(epochs=3),
            rungs=RungSpec(first_epoch=1, factor=FACTOR),
        ),
        sampler="random",
        dispatcher="ray",
    )
    spec = prepared(spec, GEOMETRY)
    store = MemoryStore()
    writer = store.create_study(spec)
    resources = ResourceSpec(max_concurrent=1)
    RayDispatcher(resources, storage=tmp_path).run(StagedController(spec, GEOMETRY), writer, tabled())
    trials = store.trials("study")
    searched = [trial for trial in trials if trial.origin is Origin.SEARCH]
    assert {trial.state for trial in trials if trial not in searched} == {TrialState.COMPLETE, TrialState.REFERENCE}
    for rung in (1, 2):
        there = [trial for trial in searched if trial.epochs_done >= rung]
        for position, trial in enumerate(there):
            went_on = trial.epochs_done > rung
            assert went_on == rule(there[:position], trial, rung, pareto=budget.low is not None), (rung, trial.number)
    stopped = [trial for trial in searched if trial.state is TrialState.STOPPED]
    assert 0 < len(stopped) < len(searched)
    words = "in accuracy and cost" if budget.low is not None else "below the best 1 of 2"
    assert all(words in (trial.reason or "") for trial in stopped)


def rule(before: list[Trial], newest: Trial, rung: int, *, pareto: bool) -> bool:
    points = [(top1(trial, rung), float(trial.cost.macs)) for trial in before]
    mine = (top1(newest, rung), float(newest.cost.macs))
    if pareto:
        return goes_on(points, newest=mine, factor=FACTOR)
    return not points or mine[0] >= np.percentile([point[0] for point in points], 100 * (1 - 1 / FACTOR))


def top1(trial: Trial, epoch: int) -> float:
    return trial.measurements[epoch - 1].metrics["val_top1"]
