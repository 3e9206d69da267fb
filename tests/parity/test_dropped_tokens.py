"""Dropping tokens equals hiding them: timm's own model over all tokens, with attention to the dropped ones masked.

The model run by hand keeps every token at its place, so positions, rotary ones too, are those of the dense model;
only the final pooling is told which tokens are left.
"""

import pytest
import torch
from test_dense_parity import MODELS, PLAIN, build

from sparsesearch.backbones.families.vit import ropes_of
from sparsesearch.backbones.transforms import restore_, sparsify_
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import ClassAttentionScorer, KeyNormScorer, NormScorer, SpotScorer

SCORERS = {"dynamicvit": None, "norm": NormScorer(), "key_norm": KeyNormScorer(), "spot": SpotScorer()}
CASES = [
    (name, scorer)
    for name in MODELS
    for scorer in SCORERS
    if "pwee" not in name or scorer in ("dynamicvit", "norm")  # it has no attention module to read
]


def masked_by_hand(model, images, kept_at):
    """Logits of the dense model whose attention does not see the tokens dropped before each block."""
    prefix = model.num_prefix_tokens
    x = model.patch_embed(images)
    x = model._pos_embed(x)
    x = x[0] if isinstance(x, tuple) else model.patch_drop(x)
    x = model.norm_pre(x)
    batch, tokens, _ = x.shape
    seen = torch.ones(batch, tokens, dtype=torch.bool)
    ropes = ropes_of(model)
    for index, block in enumerate(model.blocks):
        if index in kept_at:
            kept = kept_at[index]
            seen = torch.zeros(batch, tokens, dtype=torch.bool)
            seen[:, :prefix] = True
            seen.scatter_(1, kept + prefix, True)
        options = {} if ropes is None else {"rope": ropes[index]}
        x = block(x, attn_mask=seen[:, None, None, :].expand(-1, -1, tokens, -1), **options)
    x = model.norm(x)
    left = torch.stack([row[visible] for row, visible in zip(x, seen, strict=True)])
    return model.forward_head(left)


@pytest.mark.parametrize(("name", "scorer"), CASES)
@torch.no_grad()
def test_half_the_tokens(name, scorer):
    model, images = build(name)
    first = Step(block=1, keep_ratio=0.75, scorer=SCORERS[scorer])
    sparsify_(model, Schedule(steps=(first, Step(block=2, keep_ratio=0.5, scorer=SCORERS[scorer]))))
    logits = model(images)
    kept = [step.kept_BK for step in model.sparsity.state.trace.steps]
    restore_(model)
    expected = masked_by_hand(model, images, {1: kept[0], 2: kept[1]})
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in PLAIN if build(name)[0].cls_token is not None])
@torch.no_grad()
def test_class_attention_is_that_of_the_whole_map(name):
    """EViT, arXiv:2202.07800, section 3.2: the mean over heads of the class token's row."""
    model, images = build(name)
    maps = {}
    attn = model.blocks[1].attn
    attn.fused_attn = False
    attn.attn_drop.register_forward_hook(lambda _module, _args, weights: maps.setdefault("dense", weights))
    model(images)
    attn.fused_attn = True
    step = Step(block=1, phase="before_ffn", keep_ratio=0.5, scorer=ClassAttentionScorer())
    sparsify_(model, Schedule(steps=(step,)))
    model(images)
    scores = model.sparsity.state.trace.steps[0].score_BN
    expected = maps["dense"][:, :, 0, model.num_prefix_tokens :].mean(1)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)
