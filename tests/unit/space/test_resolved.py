import pytest
from geometries import CONVNEXT_TINY, DEIT_SMALL

from sparsesearch.schedule.methods import FastSlow, Merge, Prune
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.shape import Method

STAGES = SearchSpace(
    stages=(
        {"stage": 3, "min_keep_ratio": 0.25},
        {"stage": 2, "blocks": [4, 1, 7], "latest": 4, "max_keep_ratio": 0.5},
    ),
    min_keep_ratio=0.1,
    max_predictors=9,
).resolve(CONVNEXT_TINY)


def test_locations_are_in_order_and_limits_are_of_each_stage():
    assert STAGES.locations == ((2, 1), (2, 4), (2, 7), (3, 0), (3, 1), (3, 2))
    assert STAGES.max_predictors == 6
    assert [STAGES.ratio_limits(stage) for stage in (2, 3)] == [(0.1, 0.5), (0.25, 1.0)]
    assert STAGES.firsts == {2: 1}


def test_the_merge_is_one_method_per_phase():
    phases = ("before_block", "before_ffn")
    space = SearchSpace(reducers=(Prune(), Merge(metric="tokens")), phases=phases, merge_after_prune=True)
    merge = Merge(metric="tokens")
    assert space.resolve(DEIT_SMALL).merges == tuple(Method(reducer=merge, phase=phase) for phase in phases)
    assert space.model_copy(update={"merge_after_prune": False}).resolve(DEIT_SMALL).merges == ()


@pytest.mark.parametrize(
    ("geometry", "reducers", "monotone"),
    [
        (DEIT_SMALL, (Prune(),), True),
        (CONVNEXT_TINY, (FastSlow(),), False),
        (CONVNEXT_TINY, (Prune(), FastSlow()), False),
    ],
)
def test_ratios_may_rise_only_where_no_method_that_is_left_drops_tokens(geometry, reducers, monotone):
    assert SearchSpace(reducers=reducers, monotone=False).resolve(geometry).monotone == monotone


def test_it_is_a_value():
    again = ResolvedSpace.model_validate_json(STAGES.model_dump_json())
    assert again == STAGES
    assert hash(again) == hash(STAGES)
