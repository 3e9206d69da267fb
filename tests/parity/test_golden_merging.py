"""Merging in many blocks: the published numbers of ToMe, and the paper written out pair by pair."""

import golden_inputs
import merging_by_hand
import pytest
import timm
import torch
from merging_by_hand import Merging, Pruning

from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import ClassAttentionScorer, Merge, Prune

NUM_PATCHES = 196

PUBLISHED = {
    "deit_tiny r13x12": ("deit_tiny_patch16_224", {}, [13] * 12),
    "deit_tiny r16x2": ("deit_tiny_patch16_224", {}, [16] * 2),
    "vit_tiny_noclass r8x12": ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "avg"}, [8] * 12),
}


def merged(counts, *, phase="before_ffn"):
    left, steps = NUM_PATCHES, []
    for block, count in enumerate(counts):
        left -= count
        steps.append(Step(block=block, phase=phase, keep_ratio=left / NUM_PATCHES, reducer=Merge()))
    return Schedule(steps=tuple(steps))


@pytest.mark.parametrize("key", PUBLISHED)
@torch.no_grad()
def test_published_merging(key):
    """Every logit of six images within 1e-4, as published."""
    name, options, counts = PUBLISHED[key]
    model = timm.create_model(name, **options).eval()
    drawn = {n: golden_inputs.weight(n, tuple(t.shape), suffix="#tome") for n, t in model.state_dict().items()}
    model.load_state_dict(drawn)
    sparsify_(model, merged(counts))
    images = torch.cat([golden_inputs.image(seed) for seed in (2000, 2001, 2002)])
    golden = torch.from_numpy(golden_inputs.golden("golden_tome")[key])
    torch.testing.assert_close(model(images)[:, :32], golden, rtol=0, atol=1e-4)


def steps_of(hand, num_patches):
    """The steps of a schedule that does the same as the steps by hand."""
    left, steps = num_patches, []
    for (block, phase), step in hand.items():
        left -= step.count
        is_merge = isinstance(step, Merging)
        reducer = Merge(metric="tokens" if step.on_tokens else "keys") if is_merge else Prune()
        scorer = None if is_merge else ClassAttentionScorer()
        steps.append(Step(block=block, phase=phase, keep_ratio=left / num_patches, reducer=reducer, scorer=scorer))
    return Schedule(steps=tuple(steps))


SMALL = {"img_size": 64, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 2, "num_classes": 5}
MODELS = {
    "class token": ("vit_tiny_patch16_224", {}),
    "distilled": ("deit_tiny_distilled_patch16_224", {}),
    "no class token": ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "avg"}),
    "averaged beside a class token": ("vit_tiny_patch16_224", {"global_pool": "avg"}),
    "registers": ("vit_tiny_patch16_224", {"reg_tokens": 3}),
}
CHAINS = {
    "between attention and feed-forward": {(b, "before_ffn"): Merging(9) for b in range(4)},
    "before the block": {(b, "before_block"): Merging(11) for b in (1, 2, 3)},
    "an odd number": {(0, "before_ffn"): Merging(5), (1, "before_ffn"): Merging(29), (3, "before_ffn"): Merging(15)},
    "on tokens": {(0, "before_block"): Merging(13, on_tokens=True), (2, "before_ffn"): Merging(14, on_tokens=True)},
    "pruned, then merged": {
        (1, "before_block"): Pruning(17),
        (1, "before_ffn"): Merging(12),
        (3, "before_block"): Merging(8),
    },
    "merged, then pruned": {
        (0, "before_ffn"): Merging(16),
        (1, "before_ffn"): Pruning(11),
        (2, "before_block"): Merging(9),
    },
}


PAIRS = [
    (kind, chain)
    for kind in MODELS
    for chain, hand in CHAINS.items()
    if kind != "no class token"
    or all(isinstance(step, Merging) for step in hand.values())  # pruning reads its attention
]


@pytest.mark.parametrize(("kind", "chain"), PAIRS)
@torch.no_grad()
def test_merging_pair_by_pair(kind, chain):
    """The same logits as the paper written out, in double precision; sizes are float32."""
    name, options = MODELS[kind]
    hand = CHAINS[chain]
    torch.manual_seed(0)
    model = timm.create_model(name, **SMALL, **options).double().eval()
    for parameter in model.parameters():
        parameter.normal_(std=0.3)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    expected = torch.stack([merging_by_hand.logits(model, image, hand) for image in images])
    sparsify_(model, steps_of(hand, 64))
    torch.testing.assert_close(model(images), expected, rtol=0, atol=1e-6)
