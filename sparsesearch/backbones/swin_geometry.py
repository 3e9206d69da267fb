"""What a timm `SwinTransformer` is made of, as plain data, and which of them are supported."""

from __future__ import annotations

import math
from typing import Any

from timm.layers.mlp import Mlp
from timm.models.swin_transformer import PatchMerging, SwinTransformer, SwinTransformerBlock
from torch import nn

from sparsesearch.backbones.fast_slow import head_macs
from sparsesearch.backbones.sparsity import describe_class, own_class
from sparsesearch.backbones.vit_geometry import stem_macs
from sparsesearch.errors import BackboneError
from sparsesearch.geometry import BackboneGeometry, StageGeometry


def as_swin(model: nn.Module) -> Any:
    """The model itself, if it is one that can be sparsified.

    Raises:
        BackboneError: It is not.
    """
    if not isinstance(model, SwinTransformer):
        raise BackboneError(f"{describe_class(model)} is not a timm SwinTransformer")
    swin: Any = model
    for stage in swin.layers:
        for block in stage.blocks:
            if own_class(block) is not SwinTransformerBlock or own_class(block.mlp) is not Mlp:
                raise BackboneError(
                    f"the model is built of {describe_class(block)} with {describe_class(block.mlp)}, which cannot be "
                    "sparsified; known is timm's SwinTransformerBlock with Mlp"
                )
    return swin


def token_geometry(model: nn.Module) -> BackboneGeometry:
    """Blocks and grids of a model, enough to resolve schedules but not to price them: all MACs are 0."""
    swin = as_swin(model)
    return BackboneGeometry(
        name=describe_class(swin),
        image_size=tuple(swin.patch_embed.img_size),
        stages=tuple(
            StageGeometry(
                depth=len(stage.blocks),
                dim=stage.blocks[0].dim,
                attn_dim=0,
                num_heads=stage.blocks[0].attn.num_heads,
                mlp_dim=1,
                grid=tuple(stage.output_resolution),
                num_prefix_tokens=0,
                has_class_token=False,
                mixer="window",
            )
            for stage in swin.layers
        ),
        stem_macs=0,
        head_macs=0,
        params=0,
    )


def geometry(model: nn.Module, name: str) -> BackboneGeometry:
    """The shape of a model for costs and schedules.

    Args:
        model: A timm `SwinTransformer`, on any device (meta included), sparse or not.
        name: Its resolved name.

    Raises:
        BackboneError: The model is unsupported, or has parts that the closed form of the cost does not describe.
    """
    swin = as_swin(model)
    bare = token_geometry(swin)
    stages = []
    for stage, shape in zip(swin.layers, bare.stages, strict=True):
        costs = {_block_costs(block, shape) for block in stage.blocks}
        if len(costs) != 1:
            raise BackboneError(f"the blocks of a stage of {name} differ in width; only equal blocks can be priced")
        mlp_dim, attn_dim, mixer_macs = costs.pop()
        stages.append(
            shape.model_copy(
                update={
                    "mlp_dim": mlp_dim,
                    "attn_dim": attn_dim,
                    "mixer_macs": mixer_macs,
                    "entry_macs": _entry_macs(stage.downsample, shape, name),
                }
            )
        )
    return bare.model_copy(
        update={
            "name": name,
            "stages": tuple(stages),
            "stem_macs": stem_macs(swin.patch_embed, bare.image_size, name),
            "head_macs": head_macs(swin.head, name),
            "params": sum(p.numel() for key, p in swin.named_parameters() if not key.startswith("sparsity.")),
        }
    )


def _block_costs(block: Any, shape: StageGeometry) -> tuple[int, int, int]:
    """Hidden channels, channels of the queries, and multiply-adds of attention over the grid padded to whole windows.

    A window of `A` positions costs `A * 4 * dim * attn_dim + A^2 * 2 * attn_dim`.
    """
    attn_dim = block.attn.proj.in_features
    height, width = block.window_size
    windows = math.ceil(shape.grid[0] / height) * math.ceil(shape.grid[1] / width)
    area = height * width
    per_window = area * 4 * shape.dim * attn_dim + area * area * 2 * attn_dim
    return block.mlp.fc1.out_features, attn_dim, windows * per_window


def _entry_macs(downsample: nn.Module, shape: StageGeometry, name: str) -> int:
    if isinstance(downsample, nn.Identity):
        return 0
    if own_class(downsample) is not PatchMerging:
        raise BackboneError(f"{name} has a {describe_class(downsample)} between stages, which cannot be priced")
    reduction: Any = downsample.reduction
    return int(shape.num_tokens * reduction.in_features * reduction.out_features)
