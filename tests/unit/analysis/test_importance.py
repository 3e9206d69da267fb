"""Importances on studies where it is known what matters."""

from __future__ import annotations

import numpy as np
import pytest
from study_views import dense, trial, view_of

from sparsesearch.analysis.importance import MIN_TRIALS, importance
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.spec import Budget
from sparsesearch.study.trial import Trial

ONE, RANGE = Budget(high=0.6), Budget(low=0.2, high=0.9)


def study(count: int, *, budget: Budget, conditional: bool = False) -> StudyView:
    """Accuracy follows from `weight_0`, and a little from which score; `position_1` is nothing but noise."""
    rng = np.random.default_rng(0)
    trials: list[Trial] = [dense()]
    for number in range(1, count + 1):
        weight, scorer, macs = float(rng.random()), int(rng.integers(3)), int(rng.integers(200, 900))
        params: dict[str, int | float | str] = {"weight_0": weight, "method": scorer, "predictors": 3}
        if not conditional or number % 2:
            params["position_1"] = int(rng.integers(1, 11))
        if budget.low is not None:
            params["budget"] = macs / 1e9
        top1 = 0.3 + 0.2 * weight + (0.02 if scorer == 1 else 0.0) + (macs / 5000 if budget.low is not None else 0.0)
        trials.append(trial(number, macs, top1, params=params))
    return view_of(trials, budget=budget)


@pytest.mark.parametrize("budget", [ONE, RANGE], ids=["one", "range"])
def test_what_decides_comes_first(budget: Budget) -> None:
    found = importance(study(100, budget=budget))
    assert found is not None
    assert next(iter(found.shares)) == "weight_0"
    assert found.shares["weight_0"] > 0.5
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert set(found.shares) == {"weight_0", "method", "position_1"}, "no budget, and nothing that is always the same"
    assert (found.trials, found.good) == (100, 10)
    assert found.objective == ("accuracy" if budget is ONE else "proximity to the front")


def test_parameters_that_not_every_trial_has() -> None:
    found = importance(study(60, budget=ONE, conditional=True))
    assert found is not None
    assert "position_1" in found.shares
    assert next(iter(found.shares)) == "weight_0"


def test_slots_that_do_not_count_say_nothing() -> None:
    """They carry fixed values, which would else look like a choice that good trials share."""
    view = study(60, budget=ONE)
    trials = []
    for made in view.trials:
        if made.proposal is not None:
            steps = 1 + made.number % 2
            params = {**made.proposal.params, "predictors": steps, "weight_2": 0.55}
            made = made.model_copy(update={"proposal": made.proposal.model_copy(update={"params": params})})
        trials.append(made)
    found = importance(StudyView(view.spec, tuple(trials), view.times))
    assert found is not None
    assert "weight_2" not in found.shares
    assert "position_1" in found.shares, "every other trial has a second step"


def test_the_same_trials_give_the_same() -> None:
    assert importance(study(50, budget=RANGE)) == importance(study(50, budget=RANGE))


def test_with_few_trials_more_of_them_count_as_good() -> None:
    found = importance(study(MIN_TRIALS, budget=ONE))
    assert found is not None
    assert found.good == 5
    assert importance(study(MIN_TRIALS - 1, budget=ONE)) is None


def test_trials_without_parameters_tell_nothing() -> None:
    assert importance(view_of([dense(), *(trial(n, 500, 0.5) for n in range(1, 40))])) is None
    assert importance(view_of([])) is None
