import torch
from torch import nn

from sparsesearch.backbones.meta import without_weights
from sparsesearch.backbones.registry import create_model


def test_shapes_are_those_of_a_model_with_weights():
    with without_weights():
        model = create_model("deit_pico")
    weights = create_model("deit_pico").state_dict()
    assert {key: value.shape for key, value in model.state_dict().items()} == {k: v.shape for k, v in weights.items()}
    assert all(parameter.is_meta for parameter in model.parameters())


def test_what_has_memory_is_filled():
    with without_weights():
        tensor = torch.zeros(3, device="cpu").add_(2.0)
        layer = nn.Linear(2, 2, device="cpu")
        nn.init.constant_(layer.weight, 5.0)
    assert tensor.tolist() == [2.0, 2.0, 2.0]
    assert layer.weight.tolist() == [[5.0, 5.0], [5.0, 5.0]]
