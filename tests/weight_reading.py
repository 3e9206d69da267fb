"""Load a checkpoint that was made with defects into a model, and compare tensors."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from weight_defects import Tensors

from sparsesearch.backbones.fit_weights import FittedWeights
from sparsesearch.backbones.registry import create_model
from sparsesearch.training.foreign_weights import read_foreign_weights
from sparsesearch.training.weights import fit_dense


@cache
def model_of(backbone: str, num_classes: int, in_chans: int, image_size: int | tuple[int, int]) -> nn.Module:
    return create_model(backbone, num_classes=num_classes, in_chans=in_chans, image_size=image_size)


def load(
    path: Path,
    *,
    ema: bool | None = None,
    backbone: str = "deit_pico",
    num_classes: int = 10,
    in_chans: int = 1,
    image_size: int | tuple[int, int] = 32,
) -> tuple[FittedWeights, Tensors]:
    """Load a file into a model that is all zeros; returns what was loaded, and the model's tensors."""
    model = model_of(backbone, num_classes, in_chans, image_size)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.zero_()
    fitted = fit_dense(model, read_foreign_weights(path, ema=ema), backbone=backbone)
    fitted.load_into(model)
    return fitted, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(found: Tensor, expected: Tensor) -> bool:
    return torch.equal(found, expected.to(found.dtype))
