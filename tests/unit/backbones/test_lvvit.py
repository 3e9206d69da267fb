import json
from pathlib import Path

import pytest
import torch
from timm.layers import DropPath
from timm.models.vision_transformer import VisionTransformer
from torch.nn import LayerNorm

from sparsesearch.backbones.models.lvvit import SIZES, LvVit
from sparsesearch.backbones.registry import backbone_geometry, create_model
from sparsesearch.backbones.segments import embed, finish, run_blocks
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.backbones.vit_blocks import is_plain_block
from sparsesearch.errors import BackboneError, CheckpointError
from sparsesearch.schedule import Schedule, Step

GOLDEN = Path(__file__).parents[2] / "parity" / "golden"
IMAGES = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def pico(**options):
    model = LvVit(SIZES["lvvit_pico"], **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("name", ["lvvit-s", "lvvit-m"])
def test_keys_and_shapes_are_those_of_the_published_weights(name):
    entries = json.loads((GOLDEN / f"keys_{name}.json").read_text(encoding="utf-8"))["keys"]
    wanted = {key: entry["shape"] for key, entry in entries.items() if entry["dense"]}
    with torch.device("meta"):
        model = create_model(name.replace("-", "_"))
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == wanted


@pytest.mark.parametrize(
    ("name", "dim", "depth", "heads", "grid"),
    [
        ("lvvit_t",    240, 12, 4, 14),
        ("lvvit_s",    384, 16, 6, 14),
        ("lvvit_m",    512, 20, 8, 14),
        ("lvvit_pico",  48,  8, 3,  8),
    ],
)  # fmt: skip
def test_sizes(name, dim, depth, heads, grid):
    shape = backbone_geometry(name)
    stage = shape.stages[0]
    assert (stage.dim, stage.depth, stage.num_heads, stage.mlp_dim) == (dim, depth, heads, 3 * dim)
    assert stage.grid == (grid, grid)
    assert shape.head_macs == shape.head_token_macs == dim * (10 if name == "lvvit_pico" else 1000)


def test_the_stem_is_priced():
    width, pixels = 64, 112 * 112
    expected = pixels * width * (49 * 3 + 9 * width + 9 * width) + 196 * 384 * width * 64
    assert backbone_geometry("lvvit_s").stem_macs == expected


@pytest.mark.parametrize("name", SIZES)
def test_blocks_are_plain_blocks_of_timm_with_divided_branches(name):
    with torch.device("meta"):
        model = create_model(name)
    assert isinstance(model, VisionTransformer)
    assert all(is_plain_block(block) for block in model.blocks)
    assert all(block.attn.qkv.bias is None for block in model.blocks)
    assert {module.eps for module in model.modules() if isinstance(module, LayerNorm)} == {1e-5}
    x = torch.ones(1)
    branches = [scale for block in model.blocks for scale in (block.ls1, block.ls2)]
    assert {scale(x).item() for scale in branches} == {1.0 if name == "lvvit_t" else 0.5}


@torch.no_grad()
def test_logits_in_evaluation_and_in_training():
    model = pico().eval()
    features = model.forward_features(IMAGES)
    tokens = model.token_logits(features[:, 1:])
    assert tokens.shape == (2, 64, 10)
    assert torch.equal(model(IMAGES), model.class_logits(features) + 0.5 * tokens.amax(1))
    assert torch.equal(model.forward_head(features, pre_logits=True), features[:, 0])
    model.train()
    model.patch_embed.eval()
    assert torch.equal(model(IMAGES), model.class_logits(features))


@torch.no_grad()
def test_in_three_pieces_it_is_the_whole_model():
    model = pico().eval()
    assert torch.equal(finish(model, run_blocks(model, embed(model, IMAGES))), model(IMAGES))


@torch.no_grad()
def test_only_surviving_tokens_vote():
    model = pico().eval()
    sparsify_(model, Schedule(steps=(Step(block=2, keep_ratio=0.25), Step(block=5, keep_ratio=0.1))))
    state = model.sparsity.state
    state.keep_final_tokens = True
    logits = model(IMAGES)
    tokens = state.trace.final_tokens_BNC
    assert tokens.shape == (2, 6, 48)
    voted = logits - 0.5 * model.token_logits(tokens).amax(1)
    assert voted.std() > 0.01
    model.aux_head.weight.zero_()
    model.aux_head.bias.zero_()
    torch.testing.assert_close(model(IMAGES), voted)


def test_every_token_left_takes_part_in_a_loss_on_tokens():
    model = pico().train()
    sparsify_(model, Schedule.at([2], [0.5]))
    state = model.sparsity.state
    state.mode, state.keep_final_tokens = "masked", True
    logits = model(IMAGES)
    (logits.sum() + model.token_logits(state.trace.final_tokens_BNC).square().mean()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@torch.no_grad()
def test_the_second_head_starts_without_effect():
    model = create_model("lvvit_pico").eval()
    assert torch.equal(model(IMAGES), model.class_logits(model.forward_features(IMAGES)))


@torch.no_grad()
def test_other_classes_need_both_heads():
    model = pico().double().eval()
    model.reset_classifier(4)
    assert model.num_classes == 4
    assert (model.head.out_features, model.aux_head.out_features) == (4, 4)
    assert model.aux_head.weight.dtype == torch.float64
    assert model(IMAGES.double()).shape == (2, 4)
    model.reset_classifier(0)
    assert model(IMAGES.double()).shape == (2, 48)
    with pytest.raises(BackboneError, match="invalid global_pool 'avg'"):
        model.reset_classifier(4, "avg")


def test_options_are_those_of_timm():
    model = pico(img_size=(16, 24), in_chans=3, num_classes=5, drop_rate=0.1, drop_path_rate=0.2)
    assert model.eval()(torch.zeros(2, 3, 16, 24)).shape == (2, 5)
    rates = [m.drop_prob for m in model.modules() if isinstance(m, DropPath)]
    assert len(rates) == 14
    assert rates[-1] == pytest.approx(0.2)
    assert model.head_drop.p == 0.1
    assert pico(num_classes=0).eval()(IMAGES).shape == (2, 48)


def test_weights_depend_on_the_seed_only():
    state = torch.get_rng_state()
    one = create_model("lvvit_t", seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    same, other = create_model("lvvit_t", seed=3).state_dict(), create_model("lvvit_t", seed=4).state_dict()
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])


def test_errors():
    with pytest.raises(
        BackboneError, match="invalid image size 100x100 for LV-ViT; height and width must be multiples of 16"
    ):
        create_model("lvvit_s", image_size=100)
    with pytest.raises(CheckpointError, match="lvvit_s has no published weights"):
        create_model("lvvit_s", pretrained=True)
