"""Intermediate features of sparse models on the whole grid, as timm's dense models return them."""

import pytest
import timm
import torch

from sparsesearch.backbones.calls import new_call
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import Fuse, Merge, Prune, RandomScorer

GRID, PREFIX = 8, {"vit": 1, "no class token": 0, "distilled": 2, "rotary": 1}
SMALL = {"img_size": 64, "patch_size": 8, "embed_dim": 24, "depth": 5, "num_heads": 2, "num_classes": 5}


def build(kind):
    torch.manual_seed(0)
    match kind:
        case "vit":
            model = timm.create_model("vit_tiny_patch16_224", **SMALL)
        case "no class token":
            model = timm.create_model("vit_tiny_patch16_224", class_token=False, global_pool="avg", **SMALL)
        case "distilled":
            model = timm.create_model("deit_tiny_distilled_patch16_224", **SMALL)
        case "rotary":
            model = timm.create_model("eva02_tiny_patch14_224", **SMALL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.eval(), torch.randn(2, 3, 64, 64)


def schedule(reducers, *, phase):
    """Steps at blocks 1 and 3."""
    return Schedule(
        steps=tuple(
            Step(
                block=block,
                phase=phase,
                keep_ratio=ratio,
                reducer=reducer,
                scorer=None if reducer.kind == "merge" else RandomScorer(seed=block),
            )
            for block, ratio, reducer in zip((1, 3), (0.625, 0.375), reducers, strict=True)
        )
    )


@pytest.mark.parametrize("phase", ["before_block", "before_ffn"])
@pytest.mark.parametrize("reducers", [(Prune(), Prune()), (Merge(), Merge()), (Fuse(), Prune()), (Prune(), Merge())])
@pytest.mark.parametrize("kind", PREFIX)
@torch.no_grad()
def test_each_token_is_at_its_place(kind, reducers, phase):
    """Against the raw outputs of the blocks, placed patch by patch."""
    model, images = build(kind)
    prefix = PREFIX[kind]
    sparsify_(model, schedule(reducers, phase=phase))
    raw, groups = [], []
    call = new_call(model, record=True, keep_groups=True)

    def note(_module, _args, y):
        raw.append(y)
        groups.append(call.trace.groups_BN)

    hooks = [block.register_forward_hook(note) for block in model.blocks]
    logits = model(images, call=call)
    for hook in hooks:
        hook.remove()
    final, found = model.forward_intermediates(images, return_prefix_tokens=True)
    assert len(found) == 5
    for image in range(2):
        last = None
        for each, y, group in zip(found, raw, groups, strict=True):
            features, first = each if prefix else (each, y[:, :0])
            assert features.shape == (2, 24, GRID, GRID)
            assert torch.equal(first[image], y[image, :prefix])
            placed = features[image].flatten(1).T
            for patch in range(GRID * GRID):
                owner = patch if group is None else int(group[image, patch])
                expected = last[patch] if owner < 0 else y[image, prefix + owner]
                assert torch.equal(placed[patch], expected)
            last = placed
    assert len(raw[-1][0]) == prefix + 24
    torch.testing.assert_close(final, model.norm(raw[-1]))
    if not model.sparsity.state.plan.counts_size:
        assert torch.equal(model.forward_head(final), logits)


@torch.no_grad()
def test_without_steps_features_are_those_of_timm():
    model, images = build("vit")
    expected = model.forward_intermediates(images, indices=[0, 3], norm=True)
    sparsify_(model, Schedule())
    final, found = model.forward_intermediates(images, indices=[0, 3], norm=True)
    assert torch.equal(final, expected[0])
    assert all(torch.equal(a, b) for a, b in zip(found, expected[1], strict=True))


@torch.no_grad()
def test_the_forms_of_timm():
    model, images = build("vit")
    sparsify_(model, schedule((Prune(), Merge()), phase="before_block"))
    final, found = model.forward_intermediates(images)
    assert [tuple(each.shape) for each in found] == [(2, 24, 8, 8)] * 5
    assert final.shape == (2, 25, 24)
    for reshaped, shape in ((True, (2, 24, 8, 8)), (False, (2, 64, 24))):
        layers = model.get_intermediate_layers(images, n=[1, 4], reshape=reshaped)
        assert [tuple(each.shape) for each in layers] == [shape] * 2
        whole = layers[1] if reshaped else layers[1].transpose(1, 2).reshape(2, 24, 8, 8)
        assert torch.equal(whole, found[4])
    named = model.forward_intermediates(images, output_dict=True)
    assert torch.equal(named["image_features"], final)
    only = model.forward_intermediates(images, indices=1, intermediates_only=True, stop_early=True)
    assert torch.equal(only[0], found[4])


def test_the_maps_teach_the_scorers():
    """A dense prediction loop trains every parameter of the scorers that it uses."""
    model, images = build("vit")
    sparsify_(model.train(), Schedule.at([1, 3], [0.6, 0.3]))
    sum(each.square().mean() for each in model.forward_intermediates(images, intermediates_only=True)).backward()
    assert all(parameter.grad is not None for parameter in model.sparsity.parameters())
    taught = {name: parameter for name, parameter in model.sparsity.named_parameters() if "out" in name}
    for name, parameter in taught.items():  # the last bias moves all scores alike: its gradient is rounding
        assert parameter.grad.abs().sum() > 0 or name.endswith("out_conv.4.bias"), name
