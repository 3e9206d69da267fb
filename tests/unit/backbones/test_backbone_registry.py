import time

import pytest
import timm
import torch

from sparsesearch.backbones.registry import (
    backbone_geometry,
    create_model,
    geometry,
    resolve_name,
    supported_models,
)
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.errors import BackboneError, CheckpointError
from sparsesearch.schedule import Schedule


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("deit_s", "deit_small_patch16_224"),
        ("deit_small", "deit_small_patch16_224"),
        ("deit_t", "deit_tiny_patch16_224"),
        ("deit_base", "deit_base_patch16_224"),
        ("deit_pico", "deit_pico"),
        ("lvvit_s", "lvvit_s"),
        ("lvvit_medium", "lvvit_m"),
        ("vit_small_patch14_reg4_dinov2", "vit_small_patch14_reg4_dinov2"),
        ("deit3_small_patch16_224.fb_in1k", "deit3_small_patch16_224.fb_in1k"),
    ],
)
def test_names(given, full):
    assert resolve_name(given) == full


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("deits", "did you mean deit_s"),
        ("deit_smal_patch16_224", "did you mean .*deit_small_patch16_224"),
        ("lvvit_x", "did you mean .*lvvit_s"),
        ("zzz", "try one of convnext_t"),
        ("hf-hub:someone/deit_small_patch16_224", "unknown backbone"),
        ("resnet50", "family that cannot be sparsified; supported are"),
    ],
)
def test_unknown_names(given, words):
    with pytest.raises(BackboneError, match=words) as raised:
        resolve_name(given)
    assert "\n" not in str(raised.value)


def test_create_is_seeded_and_leaves_the_global_state_alone():
    state = torch.get_rng_state()
    one = create_model("deit_t", num_classes=3, in_chans=1, image_size=32, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    same = create_model("deit_t", num_classes=3, in_chans=1, image_size=(32, 32), seed=1)
    assert torch.equal(one.head.weight, same.head.weight)
    assert one.eval()(torch.zeros(2, 1, 32, 32)).shape == (2, 3)
    other = create_model("deit_t", num_classes=3, in_chans=1, image_size=32, seed=2)
    assert not torch.equal(one.head.weight, other.head.weight)


def test_images_smaller_than_a_patch():
    with pytest.raises(BackboneError, match="at least one patch"):
        create_model("deit_t", image_size=8)


def test_published_weights_that_cannot_be_had(monkeypatch):
    with pytest.raises(CheckpointError, match="deit_pico has no published weights"):
        create_model("deit_pico", pretrained=True)

    def offline(*args, **kwargs):
        raise OSError("no route to host\nlong story")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(CheckpointError, match=r"no route to host\); connect to the network"):
        create_model("deit_t", pretrained=True)


def test_a_model_that_does_not_fit_into_memory(monkeypatch):
    def full(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 3 bytes")

    monkeypatch.setattr(timm, "create_model", full)
    with pytest.raises(BackboneError, match="deit_tiny_patch16_224 with these options needs more memory than there is"):
        create_model("deit_t")


def test_published_channels_stay_those_of_the_weights():
    model = create_model("test_convnext", in_chans=1, image_size=64)
    assert model.pretrained_cfg["input_size"] == (1, 64, 64)
    assert geometry(model, "test_convnext").image_size == (64, 64)


def test_geometry_is_fast_and_needs_no_weights():
    backbone_geometry.cache_clear()
    backbone_geometry("deit_t")
    start = time.perf_counter()
    shape = backbone_geometry("deit_b", num_classes=10)
    assert time.perf_counter() - start < 1.0
    stage = shape.stages[0]
    assert (shape.name, shape.image_size, stage.grid) == ("deit_base_patch16_224", (224, 224), (14, 14))
    assert (stage.dim, stage.attn_dim, stage.num_heads, stage.mlp_dim) == (768, 768, 12, 3072)
    assert shape.head_macs == 7680
    assert shape.stem_macs == 196 * 768 * 768


def test_geometry_of_a_sparse_model_is_that_of_the_dense_one():
    model = create_model("deit_pico")
    dense = geometry(model, "deit_pico")
    training = {module: module.training for module in model.modules()}
    sparsify_(model, Schedule.at([2], [0.5]))
    assert geometry(model, "deit_pico") == dense
    assert all(module.training == was for module, was in training.items())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit_base_patch16_xp_224", "ParallelScalingBlock, which cannot be priced"),
    ],
)
def test_what_the_closed_form_cannot_price_is_refused(name, words):
    with pytest.raises(BackboneError, match=words):
        backbone_geometry(name)


def test_what_is_not_known_is_not_priced():
    model = timm.create_model("deit_tiny_patch16_224", depth=2, img_size=64)
    model.blocks[0].attn.more = torch.nn.Linear(2, 2)
    with pytest.raises(BackboneError, match="consists of Block with Attention with Mlp, which cannot be priced"):
        geometry(model, "more")
    with pytest.raises(BackboneError, match="no pooling"):
        geometry(timm.create_model("deit_tiny_patch16_224", depth=2, img_size=64, global_pool=""), "no pool")


@pytest.mark.parametrize(
    "name", ["deit_tiny_distilled_patch16_224", "vit_tiny_r_s16_p8_224", "deit3_small_patch16_224"]
)
def test_geometry_of_other_kinds(name):
    from sparsesearch.backbones.traced import traced_macs

    shape = backbone_geometry(name)
    stage = shape.stages[0]
    tokens = stage.num_tokens + stage.num_prefix_tokens
    block = tokens * (stage.attn_projection_macs + stage.mlp_macs) + tokens**2 * stage.attn_pair_macs
    with torch.device("meta"):
        model = create_model(name)
    image = torch.empty(1, 3, *shape.image_size, device="meta")
    assert shape.stem_macs + stage.depth * block + shape.head_macs == traced_macs(model, image)


def test_every_supported_model_has_a_name_that_resolves_to_itself():
    names = supported_models()
    assert {"deit_pico", "lvvit_m", "deit_small_patch16_224", "vit_base_patch16_224"} <= set(names)
    assert "resnet50" not in names
    assert len(names) == len(set(names))
    assert [resolve_name(name) for name in names] == names
