"""What a timm `ConvNeXt` is made of, as plain data, and which of them are supported.

A ConvNeXt takes images of any size. The size that counts is the one in its configuration (`pretrained_cfg`, where timm
notes it), 224 pixels if there is none.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.mlp import GlobalResponseNormMlp, Mlp
from timm.models.convnext import ConvNeXt, ConvNeXtBlock
from torch import Tensor, nn
from torch.func import functional_call

from sparsesearch.backbones.grid_geometry import costs_of_stage, priced, unpriced, unpriced_stage
from sparsesearch.backbones.sparsity import describe_class, own_class
from sparsesearch.backbones.vit_geometry import stem_macs
from sparsesearch.errors import BackboneError
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry

_DEFAULT_SIZE = (224, 224)


def as_convnext(model: nn.Module) -> Any:
    """The model itself, if it is one that can be sparsified.

    Raises:
        BackboneError: It is not.
    """
    if not isinstance(model, ConvNeXt):
        raise BackboneError(f"{describe_class(model)} is not a timm ConvNeXt")
    convnext: Any = model
    for stage in convnext.stages:
        for block in stage.blocks:
            mlp = block.mlp
            if own_class(mlp) is GlobalResponseNormMlp:
                raise BackboneError(
                    "the feed-forward network of ConvNeXt V2 normalises over all positions, so it cannot work on some "
                    "of them; choose a ConvNeXt of the first version, for example convnext_tiny"
                )
            if own_class(block) is not ConvNeXtBlock or own_class(mlp) is not Mlp:
                raise BackboneError(
                    f"the model is built of {describe_class(block)} with {describe_class(mlp)}, which cannot be "
                    "sparsified; known is timm's ConvNeXtBlock with Mlp"
                )
    return convnext


def image_size(model: nn.Module) -> tuple[int, int]:
    """Height and width in pixels that a model is meant for."""
    config: Any = getattr(model, "pretrained_cfg", None) or {}
    size = config.get("input_size")
    return _DEFAULT_SIZE if size is None else (int(size[1]), int(size[2]))


def token_geometry(model: nn.Module) -> BackboneGeometry:
    """Blocks and grids of a model, enough to resolve schedules but not to price them: all MACs are 0."""
    convnext = as_convnext(model)
    size = image_size(convnext)
    stages = (
        unpriced_stage(depth=len(stage.blocks), dim=_width(stage), grid=grid, mixer="convolution")
        for stage, grid in zip(convnext.stages, _grids(convnext, size), strict=True)
    )
    return unpriced(describe_class(convnext), size, stages)


def geometry(model: nn.Module, name: str) -> BackboneGeometry:
    """The shape of a model for costs and schedules.

    Args:
        model: A timm `ConvNeXt`, on any device (meta included), sparse or not.
        name: Its resolved name.

    Raises:
        BackboneError: The model is unsupported, or has parts that the closed form of the cost does not describe.
    """
    convnext = as_convnext(model)
    bare = token_geometry(convnext)
    stages = []
    entered = None
    for stage, shape in zip(convnext.stages, bare.stages, strict=True):
        costs = costs_of_stage((_block_costs(block, shape) for block in stage.blocks), name)
        has_entry = entered is not None and not isinstance(stage.downsample, nn.Identity)
        entry = stem_macs(stage.downsample, entered, name) if has_entry and entered is not None else 0
        stages.append(shape.model_copy(update={**costs, "entry_macs": entry}))
        entered = shape.grid
    return priced(bare, convnext, name, stem=convnext.stem, stages=stages)


def _width(stage: Any) -> int:
    return int(stage.blocks[0].conv_dw.out_channels)


def _block_costs(block: Any, shape: StageGeometry) -> dict[str, int]:
    """Hidden channels of the feed-forward network, and multiply-adds of the depthwise convolution over the grid."""
    return {
        "mlp_dim": block.mlp.fc1.weight.shape[0],
        "mixer_macs": shape.num_tokens * block.conv_dw.weight.numel(),
    }


def _grids(model: Any, size: tuple[int, int]) -> list[tuple[int, int]]:
    """The grid of each stage: blocks keep it, so that only what lies between them is run, and only for its shape."""
    x = torch.empty(1, model.in_chans, *size, device="meta", dtype=next(model.parameters()).dtype)
    grids = []
    try:
        x = _shape_behind(model.stem, x)
        for stage in model.stages:
            x = _shape_behind(stage.downsample, x)
            grids.append((int(x.shape[2]), int(x.shape[3])))
    except RuntimeError as error:
        raise BackboneError(
            f"images of {size[0]}x{size[1]} pixels are too small for this ConvNeXt; give it at least 32x32 (image_size)"
        ) from error
    return grids


def _shape_behind(module: nn.Module, x: Tensor) -> Tensor:
    if isinstance(module, nn.Identity):
        return x
    weights = {key: torch.empty_like(value, device="meta") for key, value in module.state_dict().items()}
    was_training = {part: part.training for part in module.modules()}
    try:
        y: Tensor = functional_call(module.eval(), weights, (x,))
    finally:
        for part, training in was_training.items():
            part.training = training
    return y
