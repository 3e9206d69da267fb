import pytest
from geometries import CONVNEXT_TINY, SWIN_TINY

from sparsesearch.budget.baselines import baseline_schedules, handcrafted_baselines
from sparsesearch.budget.study_baselines import baseline_families
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import NormScorer
from sparsesearch.space.definition import SearchSpace


def with_depth(geometry: BackboneGeometry, depth: int) -> BackboneGeometry:
    return geometry.model_copy(update={"stages": (geometry.stages[0].model_copy(update={"depth": depth}),)})


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (12, [(3, 6, 9), (2, 5, 8)]),
        (8, [(2, 4, 6), (1, 3, 5)]),
        (16, [(4, 8, 12), (3, 7, 11)]),
        (4, [(1, 2, 3), (0, 1, 2)]),
        (2, [(0, 1), (0,)]),
        (1, [(0,)]),
    ],
)
def test_families_sit_at_the_quarters_and_one_block_earlier(deit_small, depth, expected):
    families = handcrafted_baselines(with_depth(deit_small, depth))
    assert [family.shape.blocks for family in families] == expected
    assert all(set(family.shape.weights) == {1.0} for family in families)


def test_single_budget_has_each_family_once_under_it(deit_small):
    found = baseline_schedules(deit_small, SearchSpace().resolve(deit_small), low=None, high=3_000_000_000)
    assert [b.label for b in found] == ["rho at 3,6,9", "rho at 2,5,8"]
    described = [b.schedule.describe(deit_small) for b in found]
    assert described == ["3:138 6:97 9:68", "2:147 5:111 8:83"]
    for baseline in found:
        gap = 1.0 - AnalyticCost().estimate(deit_small, baseline.schedule).macs / 3e9
        assert 0.0 <= gap <= 0.007


def test_a_family_out_of_reach_is_kept_with_its_minimum(deit_small):
    found = baseline_schedules(deit_small, SearchSpace().resolve(deit_small), low=None, high=1_100_000_000)
    assert found[0].schedule is None
    assert found[0].least > 1_100_000_000
    assert found[1].schedule is not None
    assert found[1].least <= 1_100_000_000


def test_a_range_has_five_evenly_spaced_budgets(deit_small):
    found = baseline_schedules(deit_small, SearchSpace().resolve(deit_small), low=2_000_000_000, high=3_000_000_000)
    assert [b.limit for b in found[::2]] == [2_000_000_000 + i * 250_000_000 for i in range(5)]
    assert len(found) == 10


def test_families_use_the_first_scorer_of_the_space(deit_small):
    space = SearchSpace(scorers=(NormScorer(),)).resolve(deit_small)
    found = baseline_schedules(deit_small, space, low=None, high=3_000_000_000)
    assert {step.scorer for b in found for step in b.schedule.steps} == {NormScorer()}


@pytest.mark.parametrize(
    ("geometry", "expected"), [(CONVNEXT_TINY, [(1, 2, 3), (0, 1, 2)]), (SWIN_TINY, [(1, 2, 3), (0, 1, 2)])]
)
def test_hierarchical_families_sit_early_in_the_deepest_stage(geometry, expected):
    families = handcrafted_baselines(geometry)
    assert [family.shape.blocks for family in families] == expected
    assert {step.stage for family in families for step in family.shape.steps} == {2}
    assert families[0].label == "rho at 1,2,3 of stage 2"


def test_slow_shares_of_hand_families_are_a_fifth_apart():
    """As in the paper's schedule at the same cost, but for single positions that still fitted."""
    paper = paper_schedule(CONVNEXT_TINY, 0.8)
    macs = AnalyticCost().estimate(CONVNEXT_TINY, paper).macs
    found = baseline_schedules(CONVNEXT_TINY, SearchSpace().resolve(CONVNEXT_TINY), low=None, high=macs)[0]
    counts = [step.num_tokens for step in found.schedule.resolve(CONVNEXT_TINY)]
    expected = [step.num_tokens for step in paper.resolve(CONVNEXT_TINY)]
    assert counts == pytest.approx(expected, abs=2)
    assert AnalyticCost().estimate(CONVNEXT_TINY, found.schedule).macs <= macs


def test_a_hierarchical_family_out_of_reach_is_kept_with_its_minimum():
    found = baseline_schedules(CONVNEXT_TINY, SearchSpace().resolve(CONVNEXT_TINY), low=None, high=10**9)
    assert [baseline.schedule for baseline in found] == [None, None]
    assert all(baseline.least > 10**9 for baseline in found)


@pytest.mark.parametrize(
    ("blocks", "left"),
    [([3, 5], []), ([3, 6, 9], ["rho at 3,6,9"]), ([2, 3, 5, 6, 8, 9], ["rho at 3,6,9", "rho at 2,5,8"])],
)
def test_a_baseline_with_a_step_outside_the_space_is_left_out(deit_small, blocks, left):
    space = SearchSpace(blocks=blocks).resolve(deit_small)
    found = baseline_schedules(deit_small, space, low=None, high=3_000_000_000)
    assert [baseline.label for baseline in found] == left
    _, left_out = baseline_families("supernet", deit_small, space)
    assert sorted([*left, *left_out]) == ["rho at 2,5,8", "rho at 3,6,9"]
