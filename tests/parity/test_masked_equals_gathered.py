"""Given the same keep decisions, masked training computes what gathered inference computes, up to the softmax's eps."""

import pytest
import timm
import torch
from timm.layers.attention import Attention

from sparsesearch.backbones.models.pico import create_pico
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import NormScorer

# Each dropped key keeps a weight of 1e-6 / N in every row, and the four to eight layers add that up.
TOLERANCE = 2e-5
SMALL = {"img_size": 96, "depth": 4, "num_classes": 7}
MODELS = {
    "class token": lambda: timm.create_model("deit_tiny_patch16_224", **SMALL),
    "layer scale": lambda: timm.create_model("deit3_small_patch16_224", **SMALL),
    "average pool": lambda: timm.create_model("vit_little_patch16_reg1_gap_256", **SMALL),
    "average pool with prefix": lambda: timm.create_model(
        "vit_little_patch16_reg1_gap_256", pool_include_prefix=True, **SMALL
    ),
    "q and k norm": lambda: timm.create_model("deit_tiny_patch16_224", qk_norm=True, **SMALL),
    "norm on attention": lambda: timm.create_model("deit_tiny_patch16_224", scale_attn_norm=True, **SMALL),
    "conv stem": create_pico,
}
DYNAMIC = Schedule.at([1, 2, 3], [0.7, 0.4, 0.2])
SCHEDULES = {
    "before blocks": DYNAMIC,
    "before feed-forward": Schedule(
        steps=(Step(block=0, phase="before_ffn", keep_ratio=0.7), Step(block=2, phase="before_ffn", keep_ratio=0.3))
    ),
    "control": Schedule(steps=(Step(block=1, keep_ratio=0.5, scorer=NormScorer()),)),
}


def masks(state, num_tokens):
    return {
        step.name: torch.zeros(step.kept_BK.shape[0], num_tokens).scatter_(1, step.kept_BK, 1.0)
        for step in state.trace.steps
    }


def batch_norm_as_in_inference(model):
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()


def compare(model, schedule):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    sparsify_(model, schedule)
    images = torch.randn(2, model.in_chans, *model.patch_embed.img_size, generator=generator)
    state = model.sparsity.state
    with torch.no_grad():
        gathered = model.eval()(images)
        state.forced = masks(state, model.patch_embed.num_patches)
        state.mode = "masked"
        model.train()
        batch_norm_as_in_inference(model)
        masked = model(images)
    torch.testing.assert_close(masked, gathered, rtol=0, atol=TOLERANCE)
    return state, images


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_model(kind):
    torch.manual_seed(0)
    compare(MODELS[kind](), DYNAMIC)


@pytest.mark.parametrize("where", SCHEDULES)
def test_every_kind_of_step(where):
    torch.manual_seed(0)
    compare(MODELS["class token"](), SCHEDULES[where])


def test_a_control_chooses_the_same_tokens_by_itself():
    torch.manual_seed(0)
    model = MODELS["class token"]()
    state, images = compare(model, SCHEDULES["control"])
    forced, state.forced = state.forced["0_1"], None
    with torch.no_grad():
        model(images)
    assert torch.equal(state.trace.at("0_1").decision_BN, forced)


def test_gated_attention_keeps_its_gate():
    torch.manual_seed(0)
    model = MODELS["class token"]()
    for block in model.blocks:
        block.attn = Attention(192, num_heads=3, qkv_bias=True, gated=True)
    compare(model, DYNAMIC)
