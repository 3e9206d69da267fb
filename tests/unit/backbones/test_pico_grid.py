import pytest
import torch

from sparsesearch.backbones.registry import backbone_geometry, create_model, geometry
from sparsesearch.backbones.traced import traced_macs
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.cost.analytic import AnalyticCost, dense_macs
from sparsesearch.errors import BackboneError, CheckpointError
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import FastSlow

NAMES = ("convnext_pico", "swin_pico")


def test_the_convnext_of_the_demo():
    shape = backbone_geometry("convnext_pico")
    assert [(s.depth, s.dim, s.grid) for s in shape.stages] == [
        (1, 24, (16, 16)), (4, 48, (8, 8)), (2, 96, (4, 4)), (1, 128, (2, 2)),
    ]  # fmt: skip
    assert dense_macs(shape) == pytest.approx(11.6e6, rel=0.03)
    assert shape.params == pytest.approx(0.45e6, rel=0.03)


def test_the_swin_of_the_demo():
    shape = backbone_geometry("swin_pico")
    assert [(s.depth, s.dim, s.num_heads, s.grid) for s in shape.stages] == [
        (1, 24, 2, (16, 16)), (4, 48, 4, (8, 8)), (1, 96, 8, (4, 4)),
    ]  # fmt: skip
    assert dense_macs(shape) == 13_228_992


@pytest.mark.parametrize("name", NAMES)
def test_traced_counts(name):
    model = create_model(name)
    shape = geometry(model, name)
    assert shape == backbone_geometry(name)
    images = torch.zeros(1, 1, 32, 32)
    assert dense_macs(shape) == traced_macs(model, images)
    schedule = Schedule(steps=(Step(stage=1, block=1, keep_ratio=0.3, reducer=FastSlow()),))
    sparsify_(model, schedule)
    assert AnalyticCost().estimate(shape, schedule).macs == traced_macs(model, images)


@pytest.mark.parametrize("name", NAMES)
def test_weights_depend_on_the_seed_only(name):
    state = torch.get_rng_state()
    one = create_model(name, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    same, other = create_model(name, seed=3).state_dict(), create_model(name, seed=4).state_dict()
    assert all(torch.equal(one[key], same[key]) for key in one)
    stage = "stages" if name.startswith("convnext") else "layers"
    weight = f"{stage}.1.blocks.2.mlp.fc2.weight"
    assert not torch.equal(one[weight], other[weight])
    assert one[weight].std().item() == pytest.approx(192**-0.5, rel=0.05)
    assert one["head.fc.weight"].std().item() == pytest.approx(0.02, rel=0.15)


def test_fast_paths_start_with_the_layer_scale_of_the_model():
    model = create_model("convnext_pico")
    sparsify_(model, Schedule(steps=(Step(stage=1, block=1, keep_ratio=0.3, reducer=FastSlow()),)))
    assert model.sparsity.fast_paths["1_1"].gamma.tolist() == model.stages[1].blocks[1].gamma.tolist() == [0.5] * 48


@pytest.mark.parametrize("name", NAMES)
def test_other_images_and_classes(name):
    model = create_model(name, num_classes=4, in_chans=3, image_size=(48, 64)).eval()
    assert model(torch.zeros(2, 3, 48, 64)).shape == (2, 4)
    assert geometry(model, name).stages[1].grid == backbone_geometry(name, image_size=(48, 64)).stages[1].grid
    with pytest.raises(BackboneError, match="at least 16x16"):
        create_model(name, image_size=8)
    with pytest.raises(CheckpointError, match=f"{name} has no published weights"):
        create_model(name, pretrained=True)
