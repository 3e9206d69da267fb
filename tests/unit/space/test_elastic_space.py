"""Schedules that a supernet training draws are of the space, whatever its family and methods."""

import numpy as np
import pytest

from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.schedule.methods import (
    ClassAttentionScorer,
    DynamicVitScorer,
    FastSlow,
    Fuse,
    Merge,
    NormScorer,
    Prune,
    SpotScorer,
    is_learned,
)
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.supernet_schedules import minimal_schedule, random_schedule, with_fixed_windows
from sparsesearch.space.untrained import without_training


def stage(depth, side, mixer):
    is_vit = mixer == "attention"
    return StageGeometry(
        depth=depth,
        dim=48,
        attn_dim=48 * is_vit,
        num_heads=3 * is_vit,
        mlp_dim=192,
        grid=(side, side),
        num_prefix_tokens=int(is_vit),
        has_class_token=is_vit,
        mixer=mixer,
    )


def backbone(*stages):
    return BackboneGeometry(name="net", image_size=(32, 32), stages=stages, stem_macs=0, head_macs=0, params=0)


VIT = backbone(stage(8, 8, "attention"))
GRID = backbone(stage(1, 16, "convolution"), stage(4, 8, "convolution"), stage(2, 4, "convolution"))
SPACES = {
    "plain": (VIT, SearchSpace()),
    "everything": (
        VIT,
        SearchSpace(
            max_predictors=4,
            reducers=(Prune(), Fuse(), Merge()),
            scorers=(DynamicVitScorer(), SpotScorer(), ClassAttentionScorer()),
            phases=("before_block", "before_ffn"),
            methods_per="location",
            merge_after_prune=True,
            min_keep_ratio=0.1,
        ),
    ),
    "merge": (VIT, SearchSpace(reducers=(Merge(),), max_predictors=5)),
    "paths": (
        GRID,
        SearchSpace(
            stages=({"stage": 1}, {"stage": 2, "min_keep_ratio": 0.25, "max_keep_ratio": 0.75}),
            reducers=(FastSlow(), FastSlow(fast_path="identity")),
            methods_per="location",
        ),
    ),
    "rising paths": (GRID, SearchSpace(monotone=False, max_predictors=4)),
}


@pytest.mark.parametrize("kind", SPACES)
def test_drawn_schedules_are_of_the_space(kind):
    geometry, space = SPACES[kind]
    space = with_fixed_windows(space.resolve(geometry), geometry)
    rng = np.random.default_rng(0)
    seen, lowest = set(), 1.0
    for i in range(400):
        schedule = (random_schedule if i % 2 else minimal_schedule)(space, geometry, rng=rng)
        for step in schedule.resolve(geometry):
            method = (step.reducer, step.scorer, step.phase)
            assert (step.stage, step.block) in space.locations
            is_merge_behind = isinstance(step.reducer, Merge) and space.merge
            assert is_merge_behind or method in {(m.reducer, m.scorer, m.phase) for m in space.methods}
            total = geometry.stages[step.stage].num_tokens
            low, high = space.ratio_limits(step.stage)
            assert low - 1 / total <= step.num_tokens / total <= high
            seen.add((step.stage, step.block, method))
            lowest = min(lowest, step.num_tokens / total)
    assert {place[:2] for place in seen} == set(space.locations)
    assert {place[2] for place in seen} >= {(m.reducer, m.scorer, m.phase) for m in space.methods}
    assert lowest < 0.3


def test_the_minimal_schedule_is_low_and_has_as_many_steps_as_there_may_be():
    space = SearchSpace(max_predictors=3).resolve(VIT)
    rng = np.random.default_rng(1)
    for _ in range(20):
        steps = minimal_schedule(space, VIT, rng=rng).resolve(VIT)
        assert [step.num_tokens for step in steps] == [20, 10, 5]


def test_schedules_depend_on_the_generator_alone():
    geometry, space = SPACES["everything"]
    space = with_fixed_windows(space.resolve(geometry), geometry)
    first, again = (random_schedule(space, geometry, rng=np.random.default_rng(3)) for _ in range(2))
    assert first == again


def test_spot_reads_a_fixed_number_of_layers():
    space = SearchSpace(scorers=(SpotScorer(), SpotScorer(layers="all"), SpotScorer(layers=3), NormScorer()))
    fixed = with_fixed_windows(space.resolve(VIT), VIT)
    assert [m.scorer.layers for m in fixed.methods[:3]] == [2, "all", 3]
    assert fixed.methods[3].scorer == NormScorer()
    assert with_fixed_windows(fixed, VIT) == fixed


def test_without_training_nothing_learned_is_left():
    for kind, (geometry, space) in SPACES.items():
        free = without_training(space.resolve(geometry), geometry)
        assert not any(is_learned(method.scorer) for method in free.methods)
        paths = {m.reducer.fast_path for m in free.methods if isinstance(m.reducer, FastSlow)}
        assert paths <= {"identity"}
        expected = {"paths": {NormScorer()}, "rising paths": {NormScorer()}, "merge": {None}}
        found = {method.scorer for method in free.methods}
        assert found == expected.get(kind, {ClassAttentionScorer()} | ({None} if kind == "everything" else set()))
        assert without_training(free, geometry) == free


def test_scorers_without_weights_that_were_asked_for_stay():
    space = SearchSpace(scorers=(DynamicVitScorer(), NormScorer()))
    assert {m.scorer for m in without_training(space.resolve(VIT), VIT).methods} == {NormScorer()}
