"""A view of a part of a large study says the same as one of all of it."""

from __future__ import annotations

import pytest
from sample_study import run_sample, sample_spec

from sparsesearch.analysis.agreement import agreement
from sparsesearch.analysis.convergence import convergence
from sparsesearch.analysis.hypervolume_curve import hypervolume_curves
from sparsesearch.analysis.regret import regret_curves
from sparsesearch.analysis.shown_trials import shown_numbers
from sparsesearch.analysis.spending import spending
from sparsesearch.analysis.view import StudyView
from sparsesearch.store.memory import MemoryStore
from sparsesearch.study.trial import Fidelity, Origin
from sparsesearch.tracking.progress_metrics import progress_points


@pytest.fixture(scope="module")
def views():
    store = MemoryStore()
    run_sample(store, sample_spec("study"))
    num_trials = len(store.trials("study"))
    return StudyView.of(store, "study", most=None), StudyView.of(store, "study", most=num_trials - 4)


def test_evaluations_are_left_out(views):
    whole, part = views
    assert len(part.trials) == len(whole.trials) - 4
    shown = {trial.number for trial in part.trials}
    left_out = [trial for trial in whole.trials if trial.number not in shown]
    assert {(trial.fidelity, trial.origin) for trial in left_out} == {(Fidelity.SUPERNET, Origin.SEARCH)}
    assert {trial.number for trial in whole.front.points} <= shown
    parents = {trial.parent for trial in whole.trials if trial.parent is not None}
    assert parents <= shown


@pytest.mark.parametrize("derived", [hypervolume_curves, regret_curves, convergence, spending, agreement])
def test_what_is_derived_is_the_same(views, derived):
    whole, part = views
    assert derived(part) == derived(whole)
    assert derived(whole)


def test_metrics_are_the_same(views):
    whole, part = views
    assert list(progress_points(part)) == list(progress_points(whole))


def test_best_and_front_are_the_same(views):
    whole, part = views
    assert part.best == whole.best
    assert part.front.points == whole.front.points
    assert part.hypervolume == whole.hypervolume
    assert part.rows == whole.rows


def test_all_that_must_be_shown_is_shown(views):
    whole, _ = views
    least = shown_numbers(whole.rows, most=0)
    assert {trial.number for trial in whole.front.points} <= least
    assert len(least) < len(whole.trials)
    assert shown_numbers(whole.rows, most=len(whole.trials)) == {trial.number for trial in whole.trials}
