"""The closed form of the cost, the traced count and the published count agree to the integer."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from sparsesearch.backbones.registry import backbone_geometry, create_model, geometry
from sparsesearch.backbones.verbs import sparsify_
from sparsesearch.cost.analytic import AnalyticCost, scorer_macs
from sparsesearch.cost.traced import fvcore_macs, traced_macs
from sparsesearch.methods import DynamicVitScorer, NormScorer, RandomScorer
from sparsesearch.schedule import Schedule, Step

REFERENCE = json.loads((Path(__file__).parent / "gflops.json").read_text(encoding="utf-8"))["models"]
BACKBONES = ("deit_pico", "deit_t", "deit_s", "deit_b")
BLOCKS = (3, 6, 9)


@cache
def meta_model(name):
    with torch.device("meta"):
        model = create_model(name)
    return model, geometry(model, name)


def image(shape, channels=3):
    return torch.empty(1, channels, *shape, device="meta")


def random_schedule(rng, depth):
    """Any number of steps anywhere, several at one place included, with ratios from one token to all."""
    count = int(rng.integers(1, 6))
    ratios = np.sort(np.exp(rng.uniform(np.log(0.003), 0.0, count)))[::-1]
    places = sorted((int(rng.integers(depth)), int(rng.integers(2))) for _ in range(count))
    steps, learned_places = [], set()
    for place, ratio in zip(places, ratios, strict=True):
        learned = rng.random() < 0.7 and place not in learned_places
        if learned:
            learned_places.add(place)
        scorer = DynamicVitScorer() if learned else (NormScorer(), RandomScorer(seed=1))[int(rng.integers(2))]
        phase = ("before_block", "before_ffn")[place[1]]
        steps.append(Step(block=place[0], phase=phase, keep_ratio=float(ratio), scorer=scorer))
    return Schedule(steps=tuple(steps))


@pytest.mark.parametrize("name", BACKBONES)
def test_dense(name):
    model, shape = meta_model(name)
    assert backbone_geometry(name) == shape
    assert AnalyticCost().estimate(shape, Schedule()).macs == traced_macs(
        model, image(shape.image_size, model.in_chans)
    )
    assert shape.params == sum(p.numel() for key, p in model.named_parameters() if not key.startswith("sparsity."))


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_random_schedules(name):
    model, shape = meta_model(name)
    rng = np.random.default_rng(0)
    for _ in range(100):
        schedule = random_schedule(rng, shape.stages[0].depth)
        sparsify_(model, schedule)
        cost = AnalyticCost().estimate(shape, schedule)
        assert cost.macs == traced_macs(model, image(shape.image_size, model.in_chans)), schedule.describe(shape)


def test_params_of_a_sparse_model():
    model = create_model("deit_pico")
    schedule = Schedule.at([2, 4], [0.5, 0.3])
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
        with torch.device("meta"):
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
