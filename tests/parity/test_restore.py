"""`restore_` undoes everything: classes, attributes, keys, weights and outputs."""

import copy

import pytest
import timm
import torch

from sparsesearch.backbones.models.pico import create_pico
from sparsesearch.backbones.registry import create_model
from sparsesearch.backbones.transforms import attach_, restore_, sparsify_
from sparsesearch.schedule import Schedule, Step

SMALL = {"img_size": 64, "depth": 3, "num_classes": 7}
MODELS = {
    "deit": lambda: timm.create_model("deit_tiny_patch16_224", **SMALL),
    "distilled": lambda: timm.create_model("deit_tiny_distilled_patch16_224", **SMALL),
    "registers": lambda: timm.create_model("vit_little_patch16_reg1_gap_256", **SMALL),
    "pico": create_pico,
    "lvvit": lambda: create_model("lvvit_pico"),
}


def fingerprint(model):
    """Everything of a model that is not a weight: each module's class and the names of its attributes."""
    return {
        name: (
            type(module),
            sorted(module.__dict__),
            list(module._modules),
            list(module._parameters),
            list(module._buffers),
            module.training,
            len(module._forward_hooks) + len(module._forward_pre_hooks),
        )
        for name, module in model.named_modules()
    }


@pytest.mark.parametrize("kind", MODELS)
def test_restore_is_the_identity(kind):
    model = MODELS[kind]()
    before, weights = fingerprint(model), {k: v.clone() for k, v in model.state_dict().items()}
    sparsify_(model, Schedule(steps=(Step(block=1, keep_ratio=0.6), Step(block=2, phase="before_ffn", keep_ratio=0.3))))
    attach_(model, [(0, 0), (0, 2)])
    assert isinstance(model, timm.models.vision_transformer.VisionTransformer)
    assert list(model.state_dict())[: len(weights)] == list(weights)
    assert all(key.startswith("sparsity.predictors.") for key in list(model.state_dict())[len(weights) :])
    restore_(model)
    assert fingerprint(model) == before
    assert list(model.state_dict()) == list(weights)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_outputs_are_the_same_again():
    model = MODELS["deit"]().eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(images)
        sparsify_(model, Schedule.at([1], [0.3]))
        assert not torch.equal(model(images), expected)
        restore_(model)
        assert torch.equal(model(images), expected)
        restore_(model)
        assert torch.equal(model(images), expected)


def test_a_copy_is_independent():
    model = MODELS["deit"]().train()
    sparsify_(model, Schedule.at([1], [0.5]))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model(images)
    copied = copy.deepcopy(model)
    assert copied.sparsity.state is copied.blocks[0].sparsity_state
    assert copied.sparsity.state is not model.sparsity.state
    assert copied.sparsity.scorer(copied.sparsity.state.plan.steps[0]) is copied.sparsity.predictors["0_1"]
    restore_(copied)
    model.eval()(images)
    assert len(model.sparsity.state.trace.steps) == 1
