"""Adapters change nothing until a step drops something: sparse and untouched timm models of many kinds.

Where tokens are dropped, the reference is timm's own model run by hand on the tokens that the trace says were kept.
"""

import copy

import pytest
import timm
import torch

from sparsesearch.backbones.registry import BUNDLED, create_model
from sparsesearch.backbones.transforms import attach_, set_schedule_, sparsify_
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import NormScorer, RandomScorer

# One small configuration of each kind.
MODELS = {
    "deit_tiny_patch16_224": {},
    "vit_tiny_patch16_224": {},  # AugReg
    "deit3_small_patch16_224": {},  # layer scale, positions without the class token
    "vit_small_patch14_reg4_dinov2": {"img_size": 56},  # registers
    "vit_medium_patch16_gap_256": {},  # average pooling, no class token
    "vit_little_patch16_reg1_gap_256": {},  # average pooling, a register, no class token
    "vit_base_patch32_clip_224": {"img_size": 128, "embed_dim": 192, "num_heads": 3},  # norm in front
    "deit_tiny_distilled_patch16_224": {},  # two heads
    "vit_base_patch16_rpn_224": {"embed_dim": 192, "num_heads": 3},  # norms behind the branches
    "vit_pwee_patch16_reg1_gap_256": {},  # attention and feed-forward in parallel
    "vit_base_patch16_siglip_224": {"embed_dim": 192, "num_heads": 3},  # attention pooling
    "eva02_tiny_patch14_224": {"img_size": 56},  # rotary positions, gated feed-forward
    "vit_small_patch16_dinov3": {"embed_dim": 192, "num_heads": 3},  # rotary positions, registers, layer scale
    "vit_base_patch16_rope_mixed_224": {"embed_dim": 192, "num_heads": 3},  # rotary positions of each block's own
    "deit_pico": {},
    "lvvit_pico": {},  # divided branches, a head for tokens
}
PLAIN = [name for name in MODELS if "rpn" not in name and "pwee" not in name]
ROTARY = ("eva02_tiny_patch14_224", "vit_small_patch16_dinov3", "vit_base_patch16_rope_mixed_224")
CUTS = Schedule(
    steps=(
        Step(block=1, keep_ratio=0.75),
        Step(block=2, keep_ratio=0.5, scorer=NormScorer()),
        Step(block=3, keep_ratio=0.25, scorer=RandomScorer(seed=3)),
    )
)
FFN_CUTS = Schedule(
    steps=(Step(block=1, phase="before_ffn", keep_ratio=0.6), Step(block=2, phase="before_ffn", keep_ratio=0.3))
)


def build(name):
    if name in BUNDLED:
        model, size, channels = create_model(name), BUNDLED[name].image_size, BUNDLED[name].in_chans
    else:
        options = {"img_size": 64, "depth": 4, "num_classes": 7, **MODELS[name]}
        torch.manual_seed(0)
        model = timm.create_model(name, **options)
        size, channels = options["img_size"], 3
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():  # timm starts class tokens, biases and layer scales at nearly nothing
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.eval(), torch.randn(2, channels, size, size, generator=generator)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_nothing_dropped_nothing_changed(name):
    model, images = build(name)
    expected = model(images)
    attach_(model, [(0, block) for block in range(1, 4)])
    assert torch.equal(model(images), expected)
    set_schedule_(model, Schedule.at([1, 2, 3], [1.0, 1.0, 1.0]))
    assert torch.equal(model(images), expected)
    model.sparsity.state.probe = True
    assert torch.equal(model(images), expected)
    assert [step.name for step in model.sparsity.state.trace.steps] == ["0_1", "0_2", "0_3"]


@pytest.mark.parametrize("name", PLAIN)
@torch.no_grad()
def test_a_block_in_halves_is_the_whole_block(name):
    model, images = build(name)
    expected = model(images)
    attach_(model, [(0, block, "before_ffn") for block in range(4)])
    model.sparsity.state.probe = True
    assert torch.equal(model(images), expected)
    assert len(model.sparsity.state.trace.steps) == 4


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ROTARY])
@torch.no_grad()
def test_dropping_is_running_on_the_kept_tokens(name):
    model, images = build(name)
    dense = copy.deepcopy(model)
    sparsify_(model, CUTS)
    logits = model(images)
    steps = model.sparsity.state.trace.steps
    num_tokens, prefix = dense.patch_embed.num_patches, dense.num_prefix_tokens
    assert [step.kept_BK.shape[1] for step in steps] == [num_tokens * share // 4 for share in (3, 2, 1)]

    x = dense.norm_pre(dense._pos_embed(dense.patch_embed(images)))
    patches, alive = x[:, prefix:], torch.arange(num_tokens).expand(2, -1)
    x = torch.cat((x[:, :prefix], patches), dim=1)
    for index, block in enumerate(dense.blocks):
        for step in (step for step in steps if step.name == f"0_{index}"):
            rows = [
                [int((alive[b] == raster).nonzero()) for raster in step.kept_BK[b]] for b in range(2)
            ]  # where each kept raster index now stands
            x = torch.stack([torch.cat((x[b, :prefix], x[b, prefix:][rows[b]])) for b in range(2)])
            alive = step.kept_BK
        x = block(x)
    expected = dense.forward_head(dense.norm(x))
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)
    assert not torch.allclose(logits, dense(images), atol=1e-4)


@torch.no_grad()
def test_dropping_between_attention_and_feed_forward():
    model, images = build("deit3_small_patch16_224")
    dense = copy.deepcopy(model)
    sparsify_(model, FFN_CUTS)
    logits = model(images)
    steps = {step.name: step for step in model.sparsity.state.trace.steps}
    x, alive = dense._pos_embed(dense.patch_embed(images)), torch.arange(16).expand(2, -1)
    for index, block in enumerate(dense.blocks):
        x = x + block.ls1(block.attn(block.norm1(x)))
        if f"0_{index}_ffn" in steps:
            kept = steps[f"0_{index}_ffn"].kept_BK
            where = (alive[:, None, :] == kept[:, :, None]).int().argmax(-1)
            x = torch.cat((x[:, :1], torch.stack([x[b, 1:][where[b]] for b in range(2)])), dim=1)
            alive = kept
        x = x + block.ls2(block.mlp(block.norm2(x)))
    assert x.shape[1] == 1 + 4
    torch.testing.assert_close(logits, dense.forward_head(dense.norm(x)), rtol=0, atol=1e-6)
