import itertools
from math import comb

import pytest
from geometries import CONVNEXT_TINY, DEIT_PICO

from sparsesearch.schedule.methods import ClassAttentionScorer, DynamicVitScorer, Merge, Prune
from sparsesearch.space.counting import num_vectors, size
from sparsesearch.space.definition import SearchSpace


def test_pruning_is_a_product_of_binomials():
    space = SearchSpace(max_predictors=2, min_keep_ratio=0.25).resolve(DEIT_PICO)
    assert size(space, DEIT_PICO) == (7 + comb(7, 2), 28, 7 * 48 + comb(7, 2) * comb(48, 2))


def test_methods_are_chosen_once_or_place_by_place():
    space = SearchSpace(max_predictors=2, scorers=(DynamicVitScorer(), ClassAttentionScorer()))
    assert size(space.resolve(DEIT_PICO), DEIT_PICO).shapes == 2 * 28
    each = space.model_copy(update={"methods_per": "location"})
    assert size(each.resolve(DEIT_PICO), DEIT_PICO).shapes == 2 * 7 + 4 * 21
    merging = each.model_copy(update={"merge_after_prune": True})
    assert size(merging.resolve(DEIT_PICO), DEIT_PICO).shapes == 4 * 7 + 16 * 21


@pytest.mark.parametrize("merges", [(True,), (True, False), (False, True), (True, True), (True, False, True)])
def test_merges_leave_half(merges):
    space = SearchSpace(min_keep_ratio=0.25, reducers=(Prune(), Merge())).resolve(DEIT_PICO)
    found = 0
    for vector in itertools.combinations(range(63, 15, -1), len(merges)):
        arrive = (64, *vector)
        found += all(not merge or 2 * c >= arrive[i] for i, (merge, c) in enumerate(zip(merges, vector, strict=True)))
    assert num_vectors(space, DEIT_PICO, stage=0, merges=merges) == found


def test_stages_multiply_and_late_starts_do_not_count():
    space = SearchSpace(
        stages=({"stage": 2, "latest": 1, "min_keep_ratio": 0.9}, {"stage": 3, "min_keep_ratio": 0.9}),
        min_predictors=2,
        max_predictors=2,
    ).resolve(CONVNEXT_TINY)
    within_2, within_3 = 8 + 7, comb(3, 2)
    found = size(space, CONVNEXT_TINY)
    assert found.placements == found.shapes == within_2 + within_3 + 2 * 3
    assert found.schedules == within_2 * comb(20, 2) + within_3 * comb(5, 2) + 2 * 3 * 20 * 5


def test_shares_that_may_rise_are_free():
    space = SearchSpace(min_predictors=2, max_predictors=2, min_keep_ratio=0.9, monotone=False)
    assert size(space.resolve(CONVNEXT_TINY), CONVNEXT_TINY).schedules == comb(9, 2) * 20**2
