"""Geometry of a timm `SwinTransformer` as plain data, and checks that it is supported."""

from __future__ import annotations

from typing import Any

from timm.layers.mlp import Mlp
from timm.models.swin_transformer import PatchMerging, SwinTransformer, SwinTransformerBlock
from torch import nn

from sparsesearch.backbones.grid_geometry import costs_of_stage, priced, unpriced, unpriced_stage
from sparsesearch.backbones.sparsity import describe_class, original_class
from sparsesearch.catalog.closed_form import window_macs
from sparsesearch.errors import BackboneError
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry


def as_swin(model: nn.Module) -> Any:
    """Return the model if it can be sparsified.

    Raises:
        BackboneError: The model is unsupported.
    """
    if not isinstance(model, SwinTransformer):
        raise BackboneError(f"{describe_class(model)} is not a timm SwinTransformer")
    swin: Any = model
    for stage in swin.layers:
        for block in stage.blocks:
            if original_class(block) is not SwinTransformerBlock or original_class(block.mlp) is not Mlp:
                raise BackboneError(
                    f"the model consists of {describe_class(block)} with {describe_class(block.mlp)}, which cannot be "
                    "sparsified; supported is timm's SwinTransformerBlock with Mlp"
                )
    return swin


def token_geometry(model: nn.Module) -> BackboneGeometry:
    """Blocks and grids of a model, sufficient to resolve schedules but not to price them: all MACs are 0."""
    swin = as_swin(model)
    stages = (
        unpriced_stage(
            depth=len(stage.blocks),
            dim=stage.blocks[0].dim,
            grid=tuple(stage.output_resolution),
            mixer="window",
            num_heads=stage.blocks[0].attn.num_heads,
        )
        for stage in swin.layers
    )
    return unpriced(describe_class(swin), tuple(swin.patch_embed.img_size), stages)


def geometry(model: nn.Module, name: str) -> BackboneGeometry:
    """The geometry of a model for costs and schedules.

    Args:
        model: A timm `SwinTransformer`, on any device (meta included), sparse or not.
        name: Its resolved name.

    Raises:
        BackboneError: The model is unsupported, or has parts that the closed-form cost does not cover.
    """
    swin = as_swin(model)
    bare = token_geometry(swin)
    stages = []
    for stage, shape in zip(swin.layers, bare.stages, strict=True):
        costs = costs_of_stage((_block_costs(block, shape) for block in stage.blocks), name)
        entry = _entry_macs(stage.downsample, shape, name)
        stages.append(shape.model_copy(update={**costs, "entry_macs": entry}))
    return priced(bare, swin, name, stem=swin.patch_embed, stages=stages)


def _block_costs(block: Any, shape: StageGeometry) -> dict[str, int]:
    """Hidden channels, channels of the queries, and multiply-adds of attention over the grid."""
    attn_dim = block.attn.proj.in_features
    macs = window_macs(shape.grid, tuple(block.window_size), dim=shape.dim, attn_dim=attn_dim)
    return {"mlp_dim": block.mlp.fc1.out_features, "attn_dim": attn_dim, "mixer_macs": macs}


def _entry_macs(downsample: nn.Module, shape: StageGeometry, name: str) -> int:
    if isinstance(downsample, nn.Identity):
        return 0
    if original_class(downsample) is not PatchMerging:
        raise BackboneError(f"{name} has a {describe_class(downsample)} between stages, which cannot be priced")
    reduction: Any = downsample.reduction
    return int(shape.num_tokens * reduction.in_features * reduction.out_features)
