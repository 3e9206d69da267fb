import pytest
import torch
from torch import nn

from sparsesearch.backbones.models.pico import create_pico
from sparsesearch.backbones.traced import fvcore_macs, traced_macs
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.errors import BackboneError
from sparsesearch.schedule import Schedule

IMAGE = torch.zeros(1, 1, 32, 32)


def test_one_linear_layer_by_hand():
    assert traced_macs(nn.Linear(3, 5), torch.zeros(7, 3)) == 7 * 3 * 5


def test_the_mode_of_every_module_is_given_back():
    model = create_pico().train()
    model.blocks[2].eval()
    before = [module.training for module in model.modules()]
    statistics = model.patch_embed.layers[1].running_mean.clone()
    traced_macs(model, IMAGE)
    assert [module.training for module in model.modules()] == before
    assert torch.equal(model.patch_embed.layers[1].running_mean, statistics)


@pytest.mark.parametrize("count", [traced_macs, fvcore_macs])
def test_masked_training_is_refused(count):
    model = create_pico().train()
    sparsify_(model, Schedule.at([2], [0.5]))
    assert count(model, IMAGE) < count(create_pico(), IMAGE)
    model.sparsity.state.mode = "masked"
    with pytest.raises(BackboneError, match="masked training drops no tokens"):
        count(model, IMAGE)
    model.eval()
    assert count(model, IMAGE) < count(create_pico(), IMAGE)


def test_a_product_without_a_rule_is_refused():
    class Outer(nn.Module):
        def forward(self, x):
            return torch.dot(x, x)

    with pytest.raises(BackboneError, match=r"no rule for aten\.dot"):
        traced_macs(Outer(), torch.ones(3))


def test_fused_attention_of_the_model_is_left_as_it_was():
    model = create_pico()
    before = [block.attn.fused_attn for block in model.blocks]
    fvcore_macs(model, IMAGE)
    assert [block.attn.fused_attn for block in model.blocks] == before
