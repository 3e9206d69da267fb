"""Studies whose budget is in milliseconds: what is proposed, what is shown, who wins."""

import pytest
from latency_samples import made_up_confirmation, made_up_fit
from sample_study import DEIT_SMALL, run_sample, sample_spec

from sparsesearch.analysis.study_front import joint_front, study_front
from sparsesearch.analysis.view import StudyView
from sparsesearch.budget.price import study_latency, study_price
from sparsesearch.budget.solve import check_budget
from sparsesearch.cost.latency_model import LatencyModel, LatencyPrice
from sparsesearch.errors import BudgetError, SpecError
from sparsesearch.schedule import Schedule
from sparsesearch.store.memory import MemoryStore
from sparsesearch.study.events import Confirmed
from sparsesearch.study.spec import Budget, StudySpec
from sparsesearch.study.trial import Fidelity, Origin

FIT = made_up_fit(DEIT_SMALL)
PRICE = LatencyPrice(FIT)
SPACE = sample_spec().resolved.space


def spec_in_ms(low, high, **options):
    spec = sample_spec("ms", **options)
    dense = FIT.dense_ms
    resolved = spec.resolved.model_copy(update={"latency": FIT})
    budget = Budget(unit="ms", low=None if low is None else low * dense, high=high * dense)
    return spec.model_copy(update={"budget": budget, "resolved": resolved})


@pytest.fixture(scope="module")
def done():
    store = MemoryStore()
    spec = spec_in_ms(0.55, 0.8)
    run_sample(store, spec)
    return store, spec


@pytest.mark.parametrize(
    ("text", "low", "high", "shown"), [("2.5", None, 2.5, "2.5 ms"), ("2:4.5", 2, 4.5, "2:4.5 ms")]
)
def test_budgets_are_read(text, low, high, shown):
    budget = Budget.parse(text, "ms")
    assert (budget.low, budget.high, budget.axis, str(budget)) == (low, high, "ms", shown)
    assert budget.limits(10**9) == (low, high)
    with pytest.raises(SpecError, match="invalid budget"):
        Budget.parse("2.5%", "ms")


def test_budgets_out_of_reach_say_what_is_in_reach():
    with pytest.raises(
        BudgetError, match=r"meets 0.1 ms.*feasible range .* ms, that is .*% of dense; give a budget in that"
    ):
        check_budget(DEIT_SMALL, SPACE, budget=Budget(unit="ms", high=0.1), price=PRICE)
    with pytest.raises(BudgetError, match=r"the budget 100 ms needs no search: dense .* costs .* ms"):
        check_budget(DEIT_SMALL, SPACE, budget=Budget(unit="ms", high=100.0), price=PRICE)


def test_a_study_without_a_profile_says_how_to_get_one():
    spec = sample_spec().model_copy(update={"budget": Budget(unit="ms", high=1.0)})
    with pytest.raises(SpecError, match=r"needs a latency profile; give one with --device-profile NAME"):
        study_price(spec)
    assert study_price(sample_spec()) is None
    assert study_latency(sample_spec()) is None


def test_proposals_and_baselines_stay_below_with_their_margin(done):
    store, spec = done
    trials = store.trials("ms")
    searched = [trial for trial in trials if trial.origin is not Origin.REFERENCE]
    assert {trial.origin for trial in searched} == {Origin.SEARCH, Origin.BASELINE}
    model = LatencyModel(FIT)
    for trial in searched:
        assert trial.cost.predicted_ms == model.predict(DEIT_SMALL, trial.schedule)
        assert trial.cost.latency_ms is None
        assert trial.cost.predicted_ms * 1.02 <= spec.budget.high * (1 + 1e-9)
        assert trial.budget_macs is None
    dense = next(trial for trial in trials if trial.fidelity is Fidelity.DENSE)
    assert dense.cost.predicted_ms == FIT.dense_ms


def test_the_front_is_over_milliseconds(done):
    store, spec = done
    view = StudyView.of(store, "ms")
    assert view.front.axis == "ms"
    costs = [trial.cost.ms for trial in view.front.points]
    assert costs == sorted(costs)
    assert view.limit == spec.budget.high
    assert view.budget_macs is None
    assert 1.0 < view.hypervolume < 100.0
    joint = joint_front(view.front)
    assert {trial.number for trial in view.front.points} <= {trial.number for trial in joint}
    by_macs = study_front(view.trials, axis="macs")
    assert {trial.number for trial in by_macs.points} <= {trial.number for trial in joint}


def test_a_winner_that_misses_when_measured_gives_way_to_the_next(done):
    store, spec = done
    best = StudyView.of(store, "ms").best
    writer = store.open_study("ms")
    too_slow = made_up_confirmation(1.01 * spec.budget.high)
    writer.record(Confirmed(trial=best.number, attempt=best.attempt, latency=too_slow))
    writer.close()
    view = StudyView.of(store, "ms")
    assert view.best is not None
    assert view.best.number != best.number
    assert view.best.cost.ms <= spec.budget.high


def test_documents_keep_their_target():
    spec = spec_in_ms(None, 0.7)
    again = StudySpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    assert study_price(again) == study_price(spec) == PRICE
    assert study_price(again).of(DEIT_SMALL, Schedule()) == FIT.dense_ms
