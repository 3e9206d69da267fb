"""`features_only=True`: feature maps of sparse models through timm's `create_model`."""

import pytest
import timm
import torch

import sparsesearch.timm  # noqa: F401  # registers the models
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import ClassAttentionScorer, FastSlow

TOKENS = Schedule.at([2, 5], [0.7, 0.4], scorer=ClassAttentionScorer())
PATHS = Schedule(steps=(Step(stage=1, block=1, keep_ratio=0.5, reducer=FastSlow()),))
EXPECTED = {
    "deit_pico": (TOKENS, [(48, 8, 8)] * 3),
    "lvvit_pico": (TOKENS, [(48, 8, 8)] * 3),
    "convnext_pico": (PATHS, None),
    "swin_pico": (PATHS, None),
}


@pytest.mark.parametrize("name", EXPECTED)
@torch.no_grad()
def test_maps_and_their_description(name):
    schedule, shapes = EXPECTED[name]
    torch.manual_seed(0)
    whole = timm.create_model(f"sparse_{name}", schedule=schedule).eval()
    torch.manual_seed(0)
    net = timm.create_model(f"sparse_{name}", schedule=schedule, features_only=True).eval()
    images = torch.randn(2, 1, 32, 32)
    maps = net(images)
    expected = whole.forward_intermediates(images, indices=len(maps), intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))
    assert [each.shape[1] for each in maps] == net.feature_info.channels()
    assert [32 // each.shape[2] for each in maps] == net.feature_info.reduction()
    if shapes is not None:
        assert [tuple(each.shape[1:]) for each in maps] == shapes


@torch.no_grad()
def test_chosen_maps_of_a_model_of_timm():
    options = {"schedule": "rho=0.7", "features_only": True, "img_size": 64, "patch_size": 8, "depth": 12}
    net = timm.create_model("sparse_vit_tiny_patch16_224", out_indices=(2, 9), output_fmt="NLC", norm=True, **options)
    assert len(net.model.blocks) == 10
    assert [tuple(each.shape) for each in net(torch.randn(1, 3, 64, 64))] == [(1, 64, 192)] * 2


def test_an_index_out_of_range():
    with pytest.raises((AssertionError, ValueError)):
        timm.create_model("sparse_deit_pico", schedule=TOKENS, features_only=True, out_indices=(0, 99))
