"""Geometry of a timm `ConvNeXt` as plain data, and checks that it is supported.

A ConvNeXt accepts images of any size. Its geometry refers to the size in its configuration (timm's `pretrained_cfg`),
or 224 pixels if there is none.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.mlp import GlobalResponseNormMlp, Mlp
from timm.models.convnext import ConvNeXt, ConvNeXtBlock
from torch import Tensor, nn
from torch.func import functional_call

from sparsesearch.backbones.grid_geometry import costs_of_stage, priced, unpriced, unpriced_stage
from sparsesearch.backbones.sparsity import describe_class, original_class
from sparsesearch.backbones.vit_geometry import stem_macs
from sparsesearch.errors import BackboneError
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry

_DEFAULT_SIZE = (224, 224)


def as_convnext(model: nn.Module) -> Any:
    """Return the model if it can be sparsified.

    Raises:
        BackboneError: The model is unsupported.
    """
    if not isinstance(model, ConvNeXt):
        raise BackboneError(f"{describe_class(model)} is not a timm ConvNeXt")
    convnext: Any = model
    for stage in convnext.stages:
        for block in stage.blocks:
            mlp = block.mlp
            if original_class(mlp) is GlobalResponseNormMlp:
                raise BackboneError(
                    "the feed-forward network of ConvNeXt V2 normalises over all positions, so it cannot run on a "
                    "subset of them; choose a ConvNeXt of the first version, such as convnext_tiny"
                )
            if original_class(block) is not ConvNeXtBlock or original_class(mlp) is not Mlp:
                raise BackboneError(
                    f"the model consists of {describe_class(block)} with {describe_class(mlp)}, which cannot be "
                    "sparsified; supported is timm's ConvNeXtBlock with Mlp"
                )
    return convnext


def image_size(model: nn.Module) -> tuple[int, int]:
    """Height and width in pixels of the images that a model is configured for."""
    config: Any = getattr(model, "pretrained_cfg", None) or {}
    size = config.get("input_size")
    return _DEFAULT_SIZE if size is None else (int(size[1]), int(size[2]))


def token_geometry(model: nn.Module) -> BackboneGeometry:
    """Blocks and grids of a model, sufficient to resolve schedules but not to price them: all MACs are 0."""
    convnext = as_convnext(model)
    size = image_size(convnext)
    stages = (
        unpriced_stage(depth=len(stage.blocks), dim=_width(stage), grid=grid, mixer="convolution")
        for stage, grid in zip(convnext.stages, _grids(convnext, size), strict=True)
    )
    return unpriced(describe_class(convnext), size, stages)


def geometry(model: nn.Module, name: str) -> BackboneGeometry:
    """The geometry of a model for costs and schedules.

    Args:
        model: A timm `ConvNeXt`, on any device (meta included), sparse or not.
        name: Its resolved name.

    Raises:
        BackboneError: The model is unsupported, or has parts that the closed-form cost does not cover.
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
    """The grid of each stage. Blocks preserve it, so only stem and downsampling run, on the meta device."""
    x = torch.empty(1, model.in_chans, *size, device="meta", dtype=next(model.parameters()).dtype)
    grids = []
    try:
        x = _run_on_meta(model.stem, x)
        for stage in model.stages:
            x = _run_on_meta(stage.downsample, x)
            grids.append((int(x.shape[2]), int(x.shape[3])))
    except RuntimeError as error:
        raise BackboneError(
            f"images of {size[0]}x{size[1]} pixels are too small for this ConvNeXt; use an image_size of at least 32x32"
        ) from error
    return grids


def _run_on_meta(module: nn.Module, x: Tensor) -> Tensor:
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
