import pytest
import torch

from sparsesearch.backbones.models.pico import create_pico
from sparsesearch.backbones.registry import backbone_geometry, create_model
from sparsesearch.errors import BackboneError


def test_it_is_the_model_of_the_demo():
    shape = backbone_geometry("deit_pico")
    stage = shape.stages[0]
    assert (stage.dim, stage.depth, stage.num_heads, stage.mlp_dim, stage.grid) == (48, 8, 3, 192, (8, 8))
    assert shape.stem_macs == 16 * 16 * 24 * 9 + 8 * 8 * 48 * 24 * 9
    assert shape.head_macs == 480
    assert shape.params == 240_658


def test_weights_depend_on_the_seed_only():
    state = torch.get_rng_state()
    one = create_model("deit_pico", seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    same, other = create_model("deit_pico", seed=3).state_dict(), create_model("deit_pico", seed=4).state_dict()
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])


def test_weights_start_at_one_over_the_root_of_the_fan_in():
    weights = create_pico().state_dict()
    for key, fan_in in (
        ("blocks.3.mlp.fc2.weight", 192),
        ("blocks.3.attn.qkv.weight", 48),
        ("patch_embed.layers.3.weight", 216),
    ):
        assert weights[key].std().item() == pytest.approx(fan_in**-0.5, rel=0.05)
    assert weights["head.weight"].std().item() == pytest.approx(0.02, rel=0.15)
    assert weights["blocks.0.mlp.fc1.bias"].abs().max() == 0
    assert all(value.isfinite().all() for value in weights.values())


def test_other_images_and_classes():
    model = create_model("deit_pico", num_classes=4, in_chans=3, image_size=(16, 24)).eval()
    assert model(torch.zeros(2, 3, 16, 24)).shape == (2, 4)
    assert backbone_geometry("deit_pico", image_size=64).stages[0].grid == (16, 16)


@pytest.mark.parametrize("size", [30, (32, 0), (32, 6)])
def test_images_that_do_not_divide_into_tokens(size):
    with pytest.raises(BackboneError, match=r"multiples of 4|choose from 1 to 8,192"):
        create_model("deit_pico", image_size=size)
