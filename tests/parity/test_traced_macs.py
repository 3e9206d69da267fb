"""The closed form of the cost, the traced count and the published count agree to the integer."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from sparsesearch.backbones.meta import without_weights
from sparsesearch.backbones.registry import backbone_geometry, create_model, geometry
from sparsesearch.backbones.traced import fvcore_macs, traced_macs
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.cost.analytic import AnalyticCost, block_table
from sparsesearch.cost.selection import scorer_macs
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import (
    ClassAttentionScorer,
    DynamicVitScorer,
    Fuse,
    KeyNormScorer,
    Merge,
    NormScorer,
    Prune,
    RandomScorer,
    SpotScorer,
)

REFERENCE = json.loads((Path(__file__).parent / "gflops.json").read_text(encoding="utf-8"))["models"]
BACKBONES = ("deit_pico", "deit_t", "deit_s", "deit_b")
OTHERS = (
    "vit_base_patch16_siglip_224",  # attention pooling, no class token
    "vit_giant_patch14_dinov2",  # packed gate
    "aimv2_large_patch14_224",  # gate
    "eva02_tiny_patch14_224",
    "vit_small_patch16_dinov3",
    "vit_base_patch16_rope_mixed_224",
    "deit_tiny_distilled_patch16_224",
)
BLOCKS = (3, 6, 9)


@cache
def meta_model(name):
    with without_weights():
        model = create_model(name)
    return model, geometry(model, name)


def image(shape, num_channels):
    return torch.empty(1, num_channels, *shape, device="meta")


def channels(model):
    return model.patch_embed.proj.in_channels if hasattr(model.patch_embed, "proj") else 1


def random_schedule(rng, shape):
    """Any number of steps anywhere, several at one place included, of every kind that can be there."""
    stage = shape.stages[0]
    steps, alive, learned_locations = [], stage.num_tokens, set()
    places = sorted((int(rng.integers(stage.depth)), int(rng.integers(2))) for _ in range(int(rng.integers(1, 6))))
    for block, late in places:
        phase = ("before_block", "before_ffn")[late]
        reads = block + late > 0
        kind = str(rng.choice(["prune", "fuse", "merge"] if reads else ["prune", "fuse"]))
        lowest = (alive + 1) // 2 if kind == "merge" else 1
        count = int(rng.integers(lowest, alive + 1))
        reducer = {"prune": Prune(), "fuse": Fuse(), "merge": Merge(metric=str(rng.choice(["keys", "tokens"])))}[kind]
        scorers = [NormScorer(), RandomScorer(seed=1)]
        if (block, late) not in learned_locations:
            scorers.append(DynamicVitScorer())
        if reads:
            scorers.append(KeyNormScorer())
            scorers += [ClassAttentionScorer()] * stage.has_class_token
            if (block, late) not in learned_locations:
                scorers.append(SpotScorer(layers=("since_last", "all", 2)[int(rng.integers(3))]))
                scorers.append(SpotScorer(heads="mean", statistics=("row_var", "col_mean")))
        scorer = None if kind == "merge" else scorers[int(rng.integers(len(scorers)))]
        if isinstance(scorer, DynamicVitScorer | SpotScorer):
            learned_locations.add((block, late))
        steps.append(
            Step(block=block, phase=phase, keep_ratio=count / stage.num_tokens, reducer=reducer, scorer=scorer)
        )
        alive = count
    return Schedule(steps=tuple(steps))


@pytest.mark.parametrize("name", [*BACKBONES, *OTHERS])
def test_dense(name):
    model, shape = meta_model(name)
    assert backbone_geometry(name) == shape
    assert AnalyticCost().estimate(shape, Schedule()).macs == traced_macs(
        model, image(shape.image_size, channels(model))
    )
    assert shape.params == sum(p.numel() for key, p in model.named_parameters() if not key.startswith("sparsity."))


def check_random_schedules(name, numbers):
    model, shape = meta_model(name)
    for number in numbers:
        schedule = random_schedule(np.random.default_rng(number), shape)
        sparsify_(model, schedule)
        cost = AnalyticCost().estimate(shape, schedule)
        assert cost.macs == traced_macs(model, image(shape.image_size, channels(model))), schedule.describe(shape)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*BACKBONES, *OTHERS])
def test_random_schedules(name):
    check_random_schedules(name, range(100 if name == "deit_pico" else 10))


@pytest.mark.long
@pytest.mark.parametrize("name", BACKBONES[1:])  # of one depth: they only differ in their width
def test_more_random_schedules(name):
    check_random_schedules(name, range(10, 100))


@pytest.mark.parametrize("name", ["deit_pico", "eva02_tiny_patch14_224"])
def test_a_few_random_schedules(name):
    model, shape = meta_model(name)
    rng = np.random.default_rng(1)
    for _ in range(25):
        schedule = random_schedule(rng, shape)
        sparsify_(model, schedule)
        expected = traced_macs(model, image(shape.image_size, channels(model)))
        assert AnalyticCost().estimate(shape, schedule).macs == expected, schedule.describe(shape)


@pytest.mark.parametrize("steps", [
    [Step(block=2, keep_ratio=0.5), Step(block=4, keep_ratio=0.3)],
    [Step(block=2, keep_ratio=0.5, scorer=SpotScorer()), Step(block=5, keep_ratio=0.3, scorer=SpotScorer(layers=3))],
    [Step(block=2, keep_ratio=0.5, scorer=SpotScorer(heads="mean", statistics=("cls_in",)))],
])  # fmt: skip
def test_params_of_a_sparse_model(steps):
    model = create_model("deit_pico")
    schedule = Schedule(steps=tuple(steps))
    sparsify_(model, schedule)
    cost = AnalyticCost().estimate(geometry(model, "deit_pico"), schedule)
    assert cost.params == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ["deit_pico", "deit_t"])
def test_fvcore_counts_the_same(name):
    model = create_model(name)
    shape = geometry(model, name)
    schedule = Schedule(steps=(Step(block=1, keep_ratio=0.7), Step(block=5, phase="before_ffn", keep_ratio=0.4)))
    images = torch.zeros(1, model.in_chans, *shape.image_size)
    assert fvcore_macs(model, images) == AnalyticCost().estimate(shape, Schedule()).macs
    sparsify_(model, schedule)
    expected = AnalyticCost().estimate(shape, schedule).macs
    assert fvcore_macs(model, images) == expected
    assert traced_macs(model, images) == expected


def deit(name):
    if name == "deit-256":
        with without_weights():
            return geometry(VisionTransformer(embed_dim=256, depth=12, num_heads=4), name)
    return backbone_geometry({"deit-s": "deit_s", "deit-b": "deit_b"}[name])


def norm_elements(shape, kept):
    """Elements that pass a layer norm: two a block, one a predictor, one behind the last block."""
    stage = shape.stages[0]
    alive, tokens = stage.num_tokens, 0
    counts = dict(zip(BLOCKS, kept, strict=True))
    for block in range(stage.depth):
        if block in counts:
            tokens += alive
            alive = counts[block]
        tokens += 2 * (alive + 1)
    return (tokens + alive + 1) * stage.dim


@pytest.mark.parametrize("rho", ["0.5", "0.6", "0.7", "0.8", "0.9"])
@pytest.mark.parametrize("name", ["deit-s", "deit-256", "deit-b"])
def test_published_code(name, rho):
    """It counts 5 for each element of a layer norm, and nothing else that we do not."""
    shape, row = deit(name), REFERENCE[name]["sparse"][rho]
    schedule = Schedule.at(BLOCKS, [float(rho), float(rho) ** 2, float(rho) ** 3])
    assert [step.num_tokens for step in schedule.resolve(shape)] == row["kept"]
    cost = AnalyticCost().estimate(shape, schedule)
    assert cost.macs + 5 * norm_elements(shape, row["kept"]) == round(row["gflops"] * 1e9)
    assert cost.params == REFERENCE[name]["sparse_params"]


@pytest.mark.parametrize("name", ["deit-s", "deit-256", "deit-b"])
def test_published_code_dense(name):
    shape, reference = deit(name), REFERENCE[name]
    stage = shape.stages[0]
    dense = AnalyticCost().estimate(shape, Schedule()).macs
    norms = (2 * stage.depth + 1) * (stage.num_tokens + 1) * stage.dim
    assert dense + 5 * norms == round(reference["dense_gflops"] * 1e9)
    assert shape.params == reference["dense_params"]
    # At rho 1 it runs three predictors that drop nothing; our canonical schedule leaves them out.
    predictors = 3 * stage.num_tokens * scorer_macs(DynamicVitScorer(), dim=stage.dim)
    norms = norm_elements(shape, reference["sparse"]["1.0"]["kept"])
    assert dense + predictors + 5 * norms == round(reference["sparse"]["1.0"]["gflops"] * 1e9)


DIFFRATE_PRUNED = (197, 196, 190, 168, 150, 139, 129, 117, 99, 78, 58, 3)
DIFFRATE_MERGED = (197, 194, 176, 156, 141, 133, 121, 107, 88, 64, 56, 3)


def test_diffrate():
    """DiffRate's list for DeiT-S at 2.9 G (arXiv:2305.17997): tokens, class token included, after each of its steps.

    Its count has no products that only choose tokens (class attention, similarity); ours has, in columns of their own.
    And it embeds the class token as if it were a patch.
    """
    shape = backbone_geometry("deit_s")
    steps = []
    for block, (pruned, merged) in enumerate(zip(DIFFRATE_PRUNED, DIFFRATE_MERGED, strict=True)):
        place = {"block": block, "phase": "before_ffn"}
        steps.append(Step(**place, keep_ratio=(pruned - 1) / 196, scorer=ClassAttentionScorer()))
        steps.append(Step(**place, keep_ratio=(merged - 1) / 196, reducer=Merge()))
    schedule = Schedule(steps=tuple(steps))
    rows = block_table(shape, schedule)
    assert [row.tokens_out for row in rows[1:-1]] == list(DIFFRATE_MERGED)
    embedding_of_one_patch = 768 * 384
    assert sum(row.macs - row.selection_macs for row in rows) + embedding_of_one_patch == 2_905_256_448
    model, _ = meta_model("deit_s")
    sparsify_(model, schedule)
    assert traced_macs(model, image((224, 224), 3)) == AnalyticCost().estimate(shape, schedule).macs
