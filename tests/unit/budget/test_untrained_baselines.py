"""Published schedules that need no training, solved to a budget."""

from __future__ import annotations

import pytest
from geometries import CONVNEXT_TINY, DEIT_PICO, DEIT_SMALL, SWIN_TINY

from sparsesearch.budget.baselines import baseline_schedules
from sparsesearch.budget.study_baselines import baseline_families
from sparsesearch.budget.untrained_baselines import untrained_baselines
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.methods import Merge, is_learned
from sparsesearch.space.definition import SearchSpace, load_space
from sparsesearch.space.encoding import encode
from sparsesearch.space.untrained import without_training

DEEP = DEIT_SMALL.model_copy(
    update={"name": "deep", "stages": (DEIT_SMALL.stages[0].model_copy(update={"depth": 24}),)}
)


def solved(geometry, limit):
    space = SearchSpace().resolve(geometry)
    families = untrained_baselines(geometry)
    return {b.label: b.schedule for b in baseline_schedules(geometry, space, low=None, high=limit, families=families)}


def test_families_of_a_vit(deit_small):
    assert [family.label for family in untrained_baselines(deit_small)] == [
        "ToMe",
        "ToMe, decreasing",
        "EViT at 3,6,9",
        "pruned by class attention at 3,6,9",
        "pruned by key norm at 3,6,9",
        "pruned by token norm at 3,6,9",
        "pruned by chance at 3,6,9",
    ]


def test_each_uses_up_the_budget_and_learns_nothing(deit_small):
    for label, schedule in solved(deit_small, 3_000_000_000).items():
        assert schedule is not None, label
        gap = 1.0 - AnalyticCost().estimate(deit_small, schedule).macs / 3e9
        assert 0.0 <= gap <= 0.007, label
        assert not any(is_learned(step.scorer) for step in schedule.steps), label


def test_tome_merges_a_constant_and_a_falling_number_of_tokens_in_every_block(deit_small):
    found = solved(deit_small, 3_000_000_000)
    drops = {}
    for label in ("ToMe", "ToMe, decreasing"):
        steps = found[label].resolve(deit_small)
        assert [step.block for step in steps] == list(range(12))
        assert {(step.phase, type(step.reducer)) for step in steps} == {("before_ffn", Merge)}
        drops[label] = [step.num_before - step.num_tokens for step in steps]
    # Tokens are filled up one by one where the budget leaves room, which changes the last blocks by a few.
    assert max(drops["ToMe"][:9]) - min(drops["ToMe"][:9]) <= 1
    falling = drops["ToMe, decreasing"]
    assert falling[0] > falling[4] > falling[8]
    assert falling[0] >= 1.3 * drops["ToMe"][0]


@pytest.mark.parametrize("geometry", [DEIT_SMALL, DEIT_PICO, DEEP])
def test_the_search_space_has_all_but_chance(geometry):
    """What is searched is never behind what is published for want of places."""
    space = without_training(load_space("isotropic_untrained").resolve(geometry), geometry)
    families = untrained_baselines(geometry)
    limit = 0.5 * AnalyticCost().estimate(geometry, Schedule()).macs
    for found in baseline_schedules(geometry, space, low=None, high=limit, families=families):
        if found.schedule is not None and found.label.partition(" at ")[0] != "pruned by chance":
            encode(found.schedule, geometry=geometry, space=space)


@pytest.mark.parametrize("geometry", [CONVNEXT_TINY, SWIN_TINY])
def test_families_of_a_hierarchical_backbone(geometry):
    labels = [family.label for family in untrained_baselines(geometry)]
    assert len(labels) == 4
    assert {label.split(" by ")[1] for label in labels} == {"token norm", "chance"}


def test_a_study_has_those_of_its_strategy(deit_small):
    space = SearchSpace(blocks=(4, 5)).resolve(deit_small)
    free, left_out = baseline_families("training-free", deit_small, space)
    assert (len(free), left_out) == (7, ()), "they need no weights of the space"
    trained, left_out = baseline_families("supernet", deit_small, space)
    assert (len(trained), left_out) == (0, ("rho at 3,6,9", "rho at 2,5,8"))
