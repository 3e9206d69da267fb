"""Convergence of a search, and what a study cost."""

from __future__ import annotations

import pytest
from study_views import dense, handcrafted, trial, view_of

from sparsesearch.analysis.convergence import Verdict, convergence
from sparsesearch.analysis.spending import spending
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.trial import Fidelity, TrialState


def growing(values: list[float]) -> StudyView:
    """Each schedule costs the same, so that the hypervolume is half the best accuracy."""
    return view_of([dense(), *(trial(n, 500, value) for n, value in enumerate(values, start=1))])


def test_gains_of_the_last_two_quarters() -> None:
    found = convergence(growing([0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.6, 0.8]))
    assert (found.evaluations, found.last) == (8, 2)
    assert found.gain == pytest.approx((0.8 - 0.5) / 0.8)
    assert found.gain_before == pytest.approx((0.5 - 0.4) / 0.8)
    assert found.verdict is Verdict.IMPROVING
    assert found.sentence == (
        "More evaluations are likely to help: the last quarter (2 of 8) added 37.50 % to the hypervolume, the quarter "
        "before it 12.50 %."
    )


@pytest.mark.parametrize(
    ("values", "verdict", "words"),
    [
        ([0.5] * 9, Verdict.NO_GAIN, "(3 of 9) added nothing to the hypervolume, the quarter before it nothing."),
        ([0.5] * 8 + [0.5002], Verdict.SMALL_GAIN, "added 0.04 % to the hypervolume"),
        ([0.5] * 8 + [0.50002], Verdict.SMALL_GAIN, "added less than 0.01 % to the hypervolume"),
        ([0.5] * 7, Verdict.TOO_EARLY, "7 schedules have been evaluated, and at least 8 are needed"),
        ([0.0] * 9, Verdict.TOO_EARLY, "Too early"),
    ],
)
def test_verdicts(values: list[float], verdict: Verdict, words: str) -> None:
    found = convergence(growing(values))
    assert found.verdict is verdict
    assert words in found.sentence


def test_baselines_are_no_part_of_the_search() -> None:
    view = growing([0.5] * 8)
    late = handcrafted(9, 500, 0.79, budget_macs=500)
    assert convergence(StudyView(view.spec, (*view.trials, late), view.times)).verdict is Verdict.NO_GAIN


def test_nothing_yet() -> None:
    assert convergence(view_of([])).verdict is Verdict.TOO_EARLY


def test_what_a_study_cost() -> None:
    trials = [
        dense(),
        trial(1, 500, 0.5, seconds=2.0),
        trial(2, 500, None, state=TrialState.FAILED),
        trial(3, 500, 0.6, fidelity=Fidelity.FINETUNE, seconds=7.0),
        trial(4, 500, 0.4, fidelity=Fidelity.FINETUNE, seconds=5.0, state=TrialState.STOPPED),
    ]
    reference, search, tuning = spending(view_of(trials))
    assert (reference.name, search.name, tuning.name) == ("dense", "search", "fine-tuning")
    assert (search.trials, search.complete, search.stopped, search.failed, search.epochs) == (2, 1, 0, 1, 0)
    assert (tuning.trials, tuning.complete, tuning.stopped, tuning.failed, tuning.epochs) == (2, 1, 1, 0, 2)
    assert tuning.work_s == 12.0
    assert search.span_s == 15.0  # from 105 to 120
    assert spending(view_of(trials, clocked=False))[0].span_s is None
