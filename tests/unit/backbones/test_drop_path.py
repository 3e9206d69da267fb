"""Stochastic depth: linear rates, whole images, and off in evaluation."""

import copy

import pytest
import torch

from sparsesearch.backbones.drop_path import DropPath, follow_, set_drop_path_
from sparsesearch.backbones.registry import create_model, geometry
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import FastSlow
from sparsesearch.sparsify.draws import Draws

BACKBONES = ["deit_pico", "lvvit_pico", "convnext_pico", "swin_pico"]


def built(backbone, rate):
    model = create_model(backbone, num_classes=10)
    sparsify_(model, Schedule())
    set_drop_path_(model, rate)
    return model


def rates(model):
    return [module._rate for module in model.modules() if isinstance(module, DropPath)]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_rates_rise_linearly_over_all_blocks(backbone):
    found = sorted(set(rates(built(backbone, 0.3))))
    assert found[-1] == pytest.approx(0.3)
    assert found == pytest.approx([0.3 * number / len(found) for number in range(1, len(found) + 1)])
    assert rates(built(backbone, 0.0)) == []


@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_image_is_dropped_wherever_it_is_computed_and_never_in_evaluation(backbone):
    model = built(backbone, 0.5)
    plain = create_model(backbone, num_classes=10).eval()
    images = torch.randn(6, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(images), plain(images))
        for module in model.modules():
            module.training = isinstance(module, DropPath)
        follow_(model, Draws(0, 1))
        whole = model(images)
        follow_(model, Draws(0, 1).at(2))
        torch.testing.assert_close(model(images[2:]), whole[2:])
        follow_(model, Draws(0, 2))
        assert not torch.allclose(model(images), whole)


def test_branches_keep_their_mean():
    drop = DropPath("0.1.drop_path", 0.25)
    drop.draws = Draws(1)
    found = drop(torch.ones(20_000, 2, 3))
    assert found.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert torch.equal(found.amin((1, 2)), found.amax((1, 2)))
    assert float(found.mean()) == pytest.approx(1.0, abs=0.02)
    assert torch.equal(copy.deepcopy(drop)(torch.ones(20_000, 2, 3)), found)


@pytest.mark.parametrize("backbone", ["convnext_pico", "swin_pico"])
def test_recomputed_blocks_drop_the_same_images(backbone):
    images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    gradients = []
    for recomputes in (False, True):
        model = create_model(backbone, num_classes=10)
        stage = geometry(model, backbone).deepest_stage
        sparsify_(model, Schedule(steps=(Step(stage=stage, block=1, keep_ratio=0.5, reducer=FastSlow()),)))
        set_drop_path_(model, 0.5)
        model.set_grad_checkpointing(recomputes)
        follow_(model, Draws(3))
        model.train()(images).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*gradients)
