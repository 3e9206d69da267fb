"""The cost of LV-ViT, whose second head works on every token left: closed form, traced count and published count."""

import json
from pathlib import Path

import pytest
import torch

from sparsesearch.backbones.meta import without_weights
from sparsesearch.backbones.registry import backbone_geometry, create_model
from sparsesearch.backbones.traced import fvcore_macs, traced_macs
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.cost.analytic import AnalyticCost, block_table
from sparsesearch.schedule import Schedule, Step

REFERENCE = json.loads((Path(__file__).parent / "gflops.json").read_text(encoding="utf-8"))["models"]
STEM_NORM_ELEMENTS = 3 * 64 * 112 * 112


@pytest.mark.parametrize("name", ["lvvit_pico", "lvvit_t", "lvvit_s", "lvvit_m"])
@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(),
        Schedule.at([2, 4, 6], [0.7, 0.49, 0.343]),
        Schedule(steps=(Step(block=1, keep_ratio=0.6), Step(block=5, phase="before_ffn", keep_ratio=0.2))),
    ],
    ids=["dense", "early", "late"],
)
def test_closed_form_is_the_traced_count(name, schedule):
    shape = backbone_geometry(name)
    with without_weights():
        model = create_model(name)
    sparsify_(model, schedule)
    image = torch.empty(1, model.in_chans, *shape.image_size, device="meta")
    macs = AnalyticCost().estimate(shape, schedule).macs
    assert macs == traced_macs(model, image)
    assert macs == sum(row.macs for row in block_table(shape, schedule))


def test_fvcore_counts_the_same():
    model, schedule = create_model("lvvit_pico"), Schedule.at([3], [0.4])
    sparsify_(model, schedule)
    expected = AnalyticCost().estimate(backbone_geometry("lvvit_pico"), schedule).macs
    assert fvcore_macs(model, torch.zeros(1, 1, 32, 32)) == expected


@pytest.mark.parametrize("rho", ["0.5", "0.6", "0.7", "0.8", "0.9"])
@pytest.mark.parametrize("name", ["lvvit-s", "lvvit-m"])
def test_published_code(name, rho):
    """It counts 5 for each element of a layer norm, 2 for each of a batch norm, and nothing else that we do not."""
    shape, row = backbone_geometry(name.replace("-", "_")), REFERENCE[name]["sparse"][rho]
    stage = shape.stages[0]
    blocks = [stage.depth * part // 4 for part in (1, 2, 3)]
    schedule = Schedule.at(blocks, [float(rho) ** power for power in (1, 2, 3)])
    assert [step.num_tokens for step in schedule.resolve(shape)] == row["kept"]
    alive, tokens = stage.num_tokens, 0
    counts = dict(zip(blocks, row["kept"], strict=True))
    for block in range(stage.depth):
        if block in counts:
            tokens += alive
            alive = counts[block]
        tokens += 2 * (alive + 1)
    norms = 5 * (tokens + alive + 1) * stage.dim + 2 * STEM_NORM_ELEMENTS
    cost = AnalyticCost().estimate(shape, schedule)
    assert cost.macs + norms == round(row["gflops"] * 1e9)
    assert cost.params == REFERENCE[name]["sparse_params"]
    assert shape.params == REFERENCE[name]["dense_params"]
