"""Schedules against a geometry: what they become, and what is refused."""

import pytest

from sparsesearch.errors import ScheduleError
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.schedule.methods import (
    ClassAttentionScorer,
    DynamicVitScorer,
    FastSlow,
    Fuse,
    KeyNormScorer,
    Merge,
    NormScorer,
    RandomScorer,
    SpotScorer,
)


def vit(**changes):
    stage = StageGeometry(depth=12, dim=384, attn_dim=384, num_heads=6, mlp_dim=1536, grid=(14, 14), **changes)
    return BackboneGeometry(name="vit", image_size=(224, 224), stages=(stage,), stem_macs=0, head_macs=0, params=0)


def pyramid(depths=(3, 3, 9, 3)):
    stages = tuple(
        StageGeometry(
            depth=depth,
            dim=96 * 2**index,
            attn_dim=0,
            num_heads=0,
            mlp_dim=384 * 2**index,
            grid=(56 // 2**index,) * 2,
            num_prefix_tokens=0,
            has_class_token=False,
            mixer="convolution",
        )
        for index, depth in enumerate(depths)
    )
    return BackboneGeometry(name="net", image_size=(224, 224), stages=stages, stem_macs=0, head_macs=0, params=0)


def counts(schedule, geometry):
    return [step.num_tokens for step in schedule.resolve(geometry)]


def test_keys_of_stored_studies_stay():
    """The key names duplicates, caches and exports: it may not change with the version."""
    assert Schedule.at([3, 6, 9], [0.7, 0.49, 0.343]).key(vit()) == "faadf442a5eeb88b42c15caff82174f2"


@pytest.mark.parametrize("depth", [12, 16, 20])
def test_papers_schedule_of_vits(depth):
    geometry = vit()
    geometry = geometry.model_copy(update={"stages": (geometry.stages[0].model_copy(update={"depth": depth}),)})
    steps = paper_schedule(geometry, 0.7).resolve(geometry)
    assert [step.block for step in steps] == [depth // 4, depth // 2, 3 * depth // 4]
    assert [step.num_tokens for step in steps] == [137, 96, 67]


@pytest.mark.parametrize(("depth", "blocks"), [(9, [1, 2, 3]), (27, [3, 6, 9]), (6, [1, 2, 3]), (18, [2, 4, 6])])
def test_papers_schedule_of_hierarchical_models(depth, blocks):
    geometry = pyramid((3, 3, depth, 3))
    steps = paper_schedule(geometry, 0.7).resolve(geometry)
    assert [(step.stage, step.block) for step in steps] == [(2, block) for block in blocks]
    assert [step.num_tokens for step in steps] == [137, 97, 58]


def test_models_too_shallow_for_the_papers_schedules():
    with pytest.raises(ScheduleError, match="stage 0 of net has 3 blocks; the papers' schedules need at least 4"):
        paper_schedule(pyramid((3, 3, 3, 3)), 0.7)


@pytest.mark.parametrize(
    ("rho", "words"), [(0.0, "invalid rate"), (1.2, "invalid rate"), (0.4, "leaves"), (0.01, "leaves")]
)
def test_impossible_rates(rho, words):
    with pytest.raises(ScheduleError, match=words):
        paper_schedule(pyramid(), rho)


@pytest.mark.parametrize(("step", "words"), [
    (Step(block=12, keep_ratio=0.5), "block 12 does not exist: vit has blocks 0 to 11"),
    (Step(stage=1, block=0, keep_ratio=0.5), "stage 1 does not exist: vit has stages 0 to 0"),
    (Step(block=0, keep_ratio=0.5, scorer=ClassAttentionScorer()), "there is none; start at block 1, or use phase"),
    (Step(block=0, keep_ratio=0.6, reducer=Merge()), "merge at block 0 reads the attention before it"),
    (Step(block=3, keep_ratio=0.4, reducer=Merge()), "from 196 to 78 tokens: at most half .* at least 98 stay"),
    (Step(block=3, keep_ratio=0.4, reducer=FastSlow()), "fast_slow at block 3 requires a backbone of convolutions"),
])  # fmt: skip
def test_what_a_vit_cannot_do(step, words):
    with pytest.raises(ScheduleError, match=words):
        Schedule(steps=(step,)).resolve(vit())


@pytest.mark.parametrize(("step", "words"), [
    (Step(stage=2, block=3, keep_ratio=0.5), "prune at block 3 would remove tokens from the grid .* use fast_slow"),
    (Step(stage=2, block=3, keep_ratio=0.5, reducer=Merge()), "merge at block 3 would remove"),
    (Step(stage=2, block=3, keep_ratio=0.5, reducer=FastSlow(), scorer=KeyNormScorer()), "reads global attention"),
    (Step(stage=4, block=3, keep_ratio=0.5, reducer=FastSlow()), "stage 4 does not exist: net has stages 0 to 3"),
    (Step(stage=1, block=3, keep_ratio=0.5, reducer=FastSlow()), "blocks 0 to 2 in stage 1"),
])  # fmt: skip
def test_what_a_convnet_cannot_do(step, words):
    with pytest.raises(ScheduleError, match=words):
        Schedule(steps=(step,)).resolve(pyramid())


@pytest.mark.parametrize(("scorer", "words"), [
    (ClassAttentionScorer(), "needs a class token, which vit does not have"),
    (SpotScorer(statistics=("cls_out",)), "uses only statistics of the class token"),
])  # fmt: skip
def test_without_class_token(scorer, words):
    with pytest.raises(ScheduleError, match=words):
        Schedule.at([3], [0.5], scorer=scorer).resolve(vit(has_class_token=False))


def test_tokens_cannot_come_back_but_positions_may():
    with pytest.raises(ScheduleError, match="ratios must not rise with depth"):
        Schedule.at([3, 6], [0.5, 0.6])
    schedule = Schedule(
        steps=tuple(
            Step(stage=2, block=block, keep_ratio=ratio, reducer=FastSlow())
            for block, ratio in ((1, 0.3), (4, 0.6), (6, 1.0), (7, 1.0))
        )
    )
    assert counts(schedule, pyramid()) == [58, 117, 196], "the last step finds all positions slow already"


def test_steps_without_effect_are_left_out():
    assert counts(Schedule.at([2, 4, 6], [1.0, 0.5, 0.5]), vit()) == [98]


@pytest.mark.parametrize(("layers", "expected"), [("since_last", [3, 3, 4]), ("all", [3, 6, 10]), (2, [2, 2, 2])])
def test_layers_that_spot_reads(layers, expected):
    """Before block 3 there were layers 0 to 2; between attention and feed-forward of block 9 there was layer 9 too."""
    scorer = SpotScorer(layers=layers)
    schedule = Schedule(
        steps=(
            Step(block=3, keep_ratio=0.7, scorer=scorer),
            Step(block=6, keep_ratio=0.5, scorer=scorer),
            Step(block=9, phase="before_ffn", keep_ratio=0.3, scorer=scorer),
        )
    )
    steps = schedule.resolve(vit())
    assert [step.num_layers for step in steps] == expected
    assert [step.num_statistics(vit().stages[0]) for step in steps] == [number * 36 for number in expected]


def test_scorers_are_filled_in():
    assert Step(block=1, keep_ratio=0.5).scorer == DynamicVitScorer()
    assert Step(block=1, keep_ratio=0.5, reducer=Merge()).scorer is None
    with pytest.raises(ValueError, match="merge pairs similar tokens and does not rank them"):
        Step(block=1, keep_ratio=0.5, reducer=Merge(), scorer=NormScorer())
    with pytest.raises(ValueError, match="use phase before_block"):
        Step(block=1, phase="before_ffn", keep_ratio=0.5, reducer=FastSlow())
    assert SpotScorer(statistics=("col_var", "cls_in")).statistics == ("cls_in", "col_var")


def test_descriptions():
    schedule = Schedule(
        steps=(
            Step(block=3, keep_ratio=0.7),
            Step(block=4, phase="before_ffn", keep_ratio=0.5, reducer=Fuse(), scorer=ClassAttentionScorer()),
            Step(block=6, keep_ratio=0.4, reducer=Merge()),
            Step(block=7, keep_ratio=0.2, scorer=RandomScorer()),
        )
    )
    assert schedule.describe(vit()) == "3:137 4ffn:98fuse/class_attention 6:78merge 7:39/random"
    assert paper_schedule(pyramid(), 0.7).describe(pyramid()) == "s2.1:137slow s2.2:97slow s2.3:58slow"


def test_json_round_trip():
    schedule = Schedule.at([2, 5], [0.6, 0.3], reducer=Fuse(normalize=False), scorer=SpotScorer(layers=3))
    assert Schedule.model_validate_json(schedule.model_dump_json()) == schedule
    assert schedule.canonical(vit()).key(vit()) == schedule.key(vit())
