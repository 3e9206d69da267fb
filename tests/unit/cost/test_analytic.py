import json
from pathlib import Path

import pytest

from sparsesearch.cost.analytic import (
    AnalyticCost,
    block_table,
    dense_macs,
)
from sparsesearch.cost.selection import scorer_macs, scorer_params
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.schedule.methods import DynamicVitScorer, NormScorer, RandomScorer

REFERENCE = json.loads((Path(__file__).parents[2] / "parity" / "gflops.json").read_text())["models"]
WIDTHS = {"deit-s": (384, 6), "deit-256": (256, 4), "deit-b": (768, 12)}


def deit(name: str) -> BackboneGeometry:
    dim, heads = WIDTHS[name]
    stage = StageGeometry(depth=12, dim=dim, attn_dim=dim, num_heads=heads, mlp_dim=4 * dim, grid=(14, 14))
    return BackboneGeometry(
        name=name,
        image_size=(224, 224),
        stages=(stage,),
        stem_macs=196 * 768 * dim,
        head_macs=dim * 1000,
        params=REFERENCE[name]["dense_params"],
    )


def norm_ops(tokens: list[int], scored: list[int], *, dim: int) -> int:
    """What the reference counts for layer norms: five an element."""
    return 5 * dim * (sum(tokens) + sum(scored))


def test_dense_deit_small_is_the_known_integer():
    assert dense_macs(deit("deit-s")) == 4_598_882_304


@pytest.mark.parametrize("name", WIDTHS)
def test_dense_equals_the_reference_without_its_norms(name):
    norms = norm_ops([197] * 25, [], dim=WIDTHS[name][0])
    assert dense_macs(deit(name)) == round(REFERENCE[name]["dense_gflops"] * 1e9) - norms


@pytest.mark.parametrize("rho", ["0.5", "0.6", "0.7", "0.8", "0.9"])
@pytest.mark.parametrize("name", WIDTHS)
def test_hand_schedules_equal_the_reference_without_its_norms(name, rho):
    expected = REFERENCE[name]["sparse"][rho]
    ratio = float(rho)
    schedule = Schedule.at([3, 6, 9], [ratio, ratio**2, ratio**3])
    kept = [step.num_tokens for step in schedule.resolve(deit(name))]
    assert kept == expected["kept"]
    block_norms = [n + 1 for n in [196, *kept] for _ in range(6)]
    norms = norm_ops([*block_norms, kept[-1] + 1], [196, kept[0], kept[1]], dim=WIDTHS[name][0])
    cost = AnalyticCost().estimate(deit(name), schedule)
    assert cost.macs == round(expected["gflops"] * 1e9) - norms
    assert cost.params == REFERENCE[name]["sparse_params"]


def test_predictor_matches_its_layers():
    assert scorer_macs(DynamicVitScorer(), dim=384) == 384 * 384 + 384 * 192 + 192 * 96 + 96 * 2
    assert scorer_params(DynamicVitScorer(), dim=384) * 3 == 22_774_414 - 22_050_664
    for free in (NormScorer(), RandomScorer()):
        assert scorer_macs(free, dim=384) == scorer_params(free, dim=384) == 0


def test_idle_steps_cost_nothing():
    geometry = deit("deit-s")
    idle = Schedule.at([2, 3, 5], [1.0, 0.5, 0.5])
    active = Schedule.at([3], [0.5])
    assert AnalyticCost().estimate(geometry, idle) == AnalyticCost().estimate(geometry, active)


def test_dropping_before_the_feed_forward_network_costs_one_more_dense_attention():
    geometry = deit("deit-s")
    free = NormScorer()
    early = Schedule(steps=(Step(block=3, keep_ratio=0.5, scorer=free),))
    late = Schedule(steps=(Step(block=3, keep_ratio=0.5, scorer=free, phase="before_ffn"),))

    def attention(n: int) -> int:
        return n * 4 * 384 * 384 + n * n * 2 * 384

    more = AnalyticCost().estimate(geometry, late).macs - AnalyticCost().estimate(geometry, early).macs
    assert more == attention(197) - attention(99)


def test_table_shows_where_tokens_go():
    geometry = deit("deit-s")
    schedule = Schedule(steps=(Step(block=3, keep_ratio=0.5), Step(block=3, keep_ratio=0.25, phase="before_ffn")))
    rows = block_table(geometry, schedule)
    assert [row.name for row in rows] == ["stem", *(f"block {i}" for i in range(12)), "head"]
    row = rows[4]
    assert (row.tokens_in, row.tokens_attention, row.tokens_out) == (197, 99, 50)
    assert row.predictor_macs == (196 + 98) * scorer_macs(DynamicVitScorer(), dim=384)
    assert sum(row.macs for row in rows) == AnalyticCost().estimate(geometry, schedule).macs
