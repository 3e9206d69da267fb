"""Many prices at once equal single ones, to the integer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from price_many import isotropic_stage, price_many
from strategies import SCORERS, geometries

from sparsesearch.backbones.registry import backbone_geometry
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.errors import BackboneError, ScheduleError
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import DynamicVitScorer, NormScorer


@given(st.data())
def test_vectorised_price_equals_the_scalar_one(data):
    geometry = data.draw(geometries())
    stage = geometry.stages[0]
    rows, steps = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 5))
    phase = data.draw(st.sampled_from(["before_block", "before_ffn"]))
    scorer = data.draw(st.sampled_from(SCORERS))
    blocks = [
        sorted(data.draw(st.lists(st.integers(0, stage.depth - 1), min_size=steps, max_size=steps)))
        for _ in range(rows)
    ]
    counts = [
        sorted(data.draw(st.lists(st.integers(1, stage.num_tokens), min_size=steps, max_size=steps)), reverse=True)
        for _ in range(rows)
    ]
    prices = price_many(
        geometry,
        blocks=np.array(blocks, dtype=np.int64).reshape(rows, steps),
        counts=np.array(counts, dtype=np.int64).reshape(rows, steps),
        scorer=scorer,
        phase=phase,
    )
    for row in range(rows):
        steps = tuple(
            Step(block=block, phase=phase, keep_ratio=count / stage.num_tokens, scorer=scorer)
            for block, count in zip(blocks[row], counts[row], strict=True)
        )
        assert AnalyticCost().estimate(geometry, Schedule(steps=steps)).macs == int(prices[row])


def test_many_prices_are_int64_and_equal_one_by_one():
    geometry = backbone_geometry("deit_b")
    blocks = np.array([[3, 6, 9], [1, 1, 11], [2, 5, 5]])
    counts = np.array([[137, 96, 67], [196, 40, 1], [100, 100, 100]])
    prices = price_many(geometry, blocks=blocks, counts=counts, scorer=DynamicVitScorer())
    assert prices.dtype == np.int64
    for row, price in enumerate(prices):
        steps = tuple(
            Step(block=int(b), keep_ratio=int(c) / 196) for b, c in zip(blocks[row], counts[row], strict=True)
        )
        assert AnalyticCost().estimate(geometry, Schedule(steps=steps)).macs == price


def test_no_steps_is_dense():
    empty = np.zeros((2, 0), dtype=np.int64)
    prices = price_many(backbone_geometry("deit_s"), blocks=empty, counts=empty, scorer=NormScorer())
    assert list(prices) == [4_598_882_304] * 2


@pytest.mark.parametrize(
    ("blocks", "counts"),
    [([[3, 2]], [[5, 4]]), ([[3, 12]], [[5, 4]]), ([[3, 4]], [[4, 5]]), ([[3]], [[197]]), ([[3]], [[0]]), ([3], [4])],
)
def test_many_refuses_what_is_no_schedule(blocks, counts):
    with pytest.raises(ScheduleError):
        price_many(backbone_geometry("deit_s"), blocks=blocks, counts=counts, scorer=NormScorer())


def test_many_prices():
    shape = backbone_geometry("lvvit_s")
    prices = price_many(shape, blocks=[[4, 8, 12]], counts=[[137, 96, 67]], scorer=DynamicVitScorer())
    assert prices[0] == AnalyticCost().estimate(shape, Schedule.at([4, 8, 12], [0.7, 0.49, 0.343])).macs


def test_hierarchical_backbones_are_refused_in_one_line():
    stage = backbone_geometry("deit_s").stages[0]
    geometry = backbone_geometry("deit_s").model_copy(update={"stages": (stage, stage), "name": "swin"})
    with pytest.raises(BackboneError, match="swin has 2 stages") as caught:
        isotropic_stage(geometry)
    assert "\n" not in str(caught.value)
