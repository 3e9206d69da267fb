import numpy as np
import pytest
from geometries import DEIT_SMALL

from sparsesearch.budget.feasible import attainable, first_location_floors
from sparsesearch.budget.solve import check_budget, fit_to_budget, least_cost
from sparsesearch.cost.analytic import AnalyticCost, dense_macs
from sparsesearch.errors import BudgetError
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.methods import NormScorer
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.sampling import draw_shape
from sparsesearch.space.shape import Method, Shape
from sparsesearch.study.spec import Budget

SPACE = SearchSpace(max_predictors=4).resolve(DEIT_SMALL)
HAND = Shape.at((3, 6, 9), (1.0, 1.0, 1.0))


def macs(geometry, schedule):
    return AnalyticCost().estimate(geometry, schedule).macs


def test_equal_weights_at_the_reference_cost_give_the_reference_counts(deit_small):
    """rho 0.7 leaves 137, 96 and 67 tokens; its own cost as a budget leads back to them."""
    reference = Schedule.at([3, 6, 9], [0.7, 0.7**2, 0.7**3])
    schedule = fit_to_budget(deit_small, SPACE, shape=HAND, limit=macs(deit_small, reference))
    assert schedule.describe(deit_small) == reference.describe(deit_small) == "3:137 6:96 9:67"


def test_scaling_the_weights_changes_nothing(deit_small):
    scaled = Shape.at(HAND.blocks, (0.2, 0.2, 0.2))
    fits = [fit_to_budget(deit_small, SPACE, shape=shape, limit=3_000_000_000) for shape in (HAND, scaled)]
    assert fits[0] == fits[1]


def test_random_shapes_fill_three_gflops_within_a_hundredth(deit_small):
    rng = np.random.default_rng(0)
    gaps = []
    for _ in range(300):
        shape = draw_shape(SPACE, rng=rng, latest_first=6)
        schedule = fit_to_budget(deit_small, SPACE, shape=shape, limit=3_000_000_000)
        assert schedule is not None
        gaps.append(1.0 - macs(deit_small, schedule) / 3e9)
    assert min(gaps) >= 0.0
    assert max(gaps) <= 0.007
    assert sorted(gaps)[150] <= 0.001


def test_a_shape_that_cannot_get_cheap_enough_has_no_fit(deit_small):
    late = Shape.at((10,), (1.0,))
    assert least_cost(deit_small, SPACE, shape=late) > 3_000_000_000
    assert fit_to_budget(deit_small, SPACE, shape=late, limit=3_000_000_000) is None


def test_a_shape_that_cannot_use_the_budget_has_no_fit(tiny):
    """Three steps leave at most 3, 2 and 1 of 4 tokens, far below a budget near dense."""
    cheap = Shape.at((1, 2, 3), method=Method(scorer=NormScorer()))
    assert fit_to_budget(tiny, SearchSpace().resolve(tiny), shape=cheap, limit=dense_macs(tiny) - 1) is None


def test_more_steps_than_tokens_has_no_fit(tiny):
    shape = Shape.at((0, 1, 2, 3))
    assert fit_to_budget(tiny, SearchSpace().resolve(tiny), shape=shape, limit=10**9) is None
    with pytest.raises(BudgetError, match="use fewer predictors"):
        least_cost(tiny, SearchSpace().resolve(tiny), shape=shape)


def test_floors_exclude_late_first_steps(deit_small):
    floors = first_location_floors(deit_small, SPACE)
    assert len(floors) == 11
    assert floors[0] == attainable(deit_small, SPACE)[0]
    assert sum(floor <= 3_000_000_000 for floor in floors) == 7


def test_budgets_that_can_be_met_come_back_in_macs(deit_small):
    assert check_budget(deit_small, SPACE, budget=Budget.parse("3.0", "gflops")) == (None, 3_000_000_000)
    low, high = check_budget(deit_small, SPACE, budget=Budget.parse("35%:65%", "fraction"))
    assert (low, high) == (round(0.35 * 4_598_882_304), round(0.65 * 4_598_882_304))


@pytest.mark.parametrize("text", ["4.6", "100", "4.598882304"])
def test_a_budget_not_below_dense_needs_no_search(deit_small, text):
    with pytest.raises(BudgetError, match=r"needs no search: dense deit_small_patch16_224 costs 4\.599 GFLOPs"):
        check_budget(deit_small, SPACE, budget=Budget.parse(text, "gflops"))


@pytest.mark.parametrize(("text", "unit"), [("0.2", "gflops"), ("0.2:3", "gflops"), ("5%", "fraction")])
def test_an_unreachable_budget_is_refused_with_the_attainable_interval(deit_small, text, unit):
    with pytest.raises(BudgetError) as caught:
        check_budget(deit_small, SPACE, budget=Budget.parse(text, unit))
    message = str(caught.value)
    assert "0.5616 to 4.598 GFLOPs (multiply-adds), that is 12.22% to 99.99% of dense" in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["0.5616", "4.598"])
def test_the_ends_of_the_stated_interval_can_be_typed_in(deit_small, text):
    check_budget(deit_small, SPACE, budget=Budget.parse(text, "gflops"))
    check_budget(deit_small, SPACE, budget=Budget.parse("12.22%:99.99%", "fraction"))


def test_a_space_without_a_schedule_is_refused(tiny):
    full = SearchSpace(min_predictors=3, max_predictors=3, min_keep_ratio=0.9).resolve(tiny)
    with pytest.raises(BudgetError, match="lower one of them"):
        attainable(tiny, full)
