import pytest
import timm
import torch

from sparsesearch.backbones.calls import new_call
from sparsesearch.backbones.models.pico import create_pico
from sparsesearch.backbones.segments import embed, finish, run_blocks
from sparsesearch.backbones.transforms import attach_, set_schedule_, sparsify_
from sparsesearch.errors import BackboneError
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import RandomScorer

MODELS = {
    "pico": create_pico,
    "distilled": lambda: timm.create_model("deit_tiny_distilled_patch16_224", img_size=64, depth=8, num_classes=5),
    "norm in front": lambda: timm.create_model("vit_base_patch32_clip_224", img_size=128, depth=8, num_classes=5),
    "average pool": lambda: timm.create_model("vit_little_patch16_reg1_gap_256", img_size=64, depth=8, num_classes=5),
}
CUTS = Schedule(steps=(Step(block=3, keep_ratio=0.6), Step(block=5, keep_ratio=0.3, scorer=RandomScorer())))


def images(model):
    return torch.randn(2, model.in_chans, *model.patch_embed.img_size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("schedule", [None, Schedule(), CUTS])
@torch.no_grad()
def test_the_pieces_are_the_whole(kind, schedule):
    model = MODELS[kind]().eval()
    if schedule is not None:
        sparsify_(model, schedule)
    x = images(model)
    expected = model(x)
    for stops in ((8,), (3, 8), (2, 4, 6, 8)):
        tokens, start = embed(model, x), 0
        call = None if schedule is None else new_call(model)
        for stop in stops:
            tokens = run_blocks(model, tokens, start, stop, call=call)
            start = stop
        assert torch.equal(finish(model, tokens, call=call), expected)


@torch.no_grad()
def test_a_kept_prefix_serves_many_schedules():
    model = create_pico().eval()
    attach_(model, [(0, block) for block in range(1, 8)])
    x = images(model)
    cache = run_blocks(model, embed(model, x), 0, 3)
    for blocks, ratios in (([3], [0.5]), ([4, 6], [0.3, 0.1]), ([7], [0.02])):
        set_schedule_(model, Schedule.at(blocks, ratios))
        expected = model(x)
        call = new_call(model)
        assert torch.equal(finish(model, run_blocks(model, cache, 3, call=call), call=call), expected)
        assert len(call.trace.steps) == len(blocks)
        assert torch.equal(finish(model, run_blocks(model, cache, 3)), expected)


@torch.no_grad()
def test_final_tokens_are_kept_when_asked_for():
    model = create_pico().eval()
    sparsify_(model, CUTS)
    model.sparsity.state.keep_final_tokens = True
    x = images(model)
    model(x)
    expected = model.sparsity.state.trace.final_tokens_BNC
    call = new_call(model)
    finish(model, run_blocks(model, embed(model, x), call=call), call=call)
    assert expected.shape == (2, 19, 48)
    assert torch.equal(call.trace.final_tokens_BNC, expected)


@torch.no_grad()
def test_blocks_after_a_step_need_the_call_of_the_step():
    model = create_pico().eval()
    sparsify_(model, CUTS)
    tokens = run_blocks(model, embed(model, images(model)), 0, 4)
    with pytest.raises(BackboneError, match="a step is before block 4"):
        run_blocks(model, tokens, 4)
    with pytest.raises(BackboneError, match="runs only in a call"):
        model.blocks[4](tokens)


def test_other_models_are_refused():
    with pytest.raises(BackboneError, match="cannot be sparsified"):
        embed(torch.nn.Linear(2, 2), torch.zeros(1, 2))
