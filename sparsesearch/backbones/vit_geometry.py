"""Geometry of a timm `VisionTransformer` or `Eva` as plain data, and checks that it is supported.

Multiply-adds are exact: parts that the closed-form cost does not cover raise `BackboneError`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from timm.layers.attention_pool import AttentionPoolLatent
from timm.layers.mlp import GluMlp, Mlp, SwiGLU
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.func import functional_call

from sparsesearch.backbones.attention_parts import is_known_attention
from sparsesearch.backbones.sparsity import describe_class, original_class
from sparsesearch.errors import BackboneError
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry

KINDS = (VisionTransformer, Eva)


def as_vit(model: nn.Module) -> Any:
    """Return the model if it can be sparsified.

    Raises:
        BackboneError: The model is unsupported.
    """
    if not isinstance(model, KINDS):
        raise BackboneError(f"{describe_class(model)} is not a timm VisionTransformer or Eva")
    drop = getattr(model, "patch_drop", None)
    if drop is not None and not isinstance(drop, nn.Identity):
        raise BackboneError("patch_drop already drops tokens at random; build the model with patch_drop_rate=0")
    if not getattr(model.patch_embed, "num_patches", None):
        raise BackboneError("the model has no token grid; build it with an image size of at least one patch")
    return model


def token_geometry(model: nn.Module) -> BackboneGeometry:
    """Blocks and token grid of a model, sufficient to resolve schedules but not to price them: all MACs are 0."""
    vit = as_vit(model)
    return BackboneGeometry(
        name=describe_class(vit),
        image_size=tuple(vit.patch_embed.img_size),
        stages=(_stage(vit, attn_dim=0, num_heads=_num_heads(vit), mlp_dim=1),),
        stem_macs=0,
        head_macs=0,
        params=0,
    )


def geometry(model: nn.Module, name: str) -> BackboneGeometry:
    """The geometry of a model for costs and schedules.

    Args:
        model: A timm `VisionTransformer` or `Eva`, on any device (meta included), sparse or not.
        name: Its resolved name.

    Raises:
        BackboneError: The model is unsupported, or has parts that the closed-form cost does not cover.
    """
    vit = as_vit(model)
    widths = {_block_widths(block, name) for block in vit.blocks}
    if len(widths) != 1:
        raise BackboneError(f"the blocks of {name} differ in width; only blocks of equal width can be priced")
    head_macs, head_token_macs = _head_macs(vit, name)
    return BackboneGeometry(
        name=name,
        image_size=tuple(vit.patch_embed.img_size),
        stages=(_stage(vit, **widths.pop()._asdict()),),
        stem_macs=stem_macs(vit.patch_embed, tuple(vit.patch_embed.img_size), name),
        head_macs=head_macs,
        head_token_macs=head_token_macs,
        params=dense_params(vit),
    )


class _Widths(NamedTuple):
    attn_dim: int
    num_heads: int
    mlp_dim: int
    num_attn_matrices: int
    num_mlp_matrices: int


def _stage(vit: Any, **widths: int) -> StageGeometry:
    return StageGeometry(
        depth=len(vit.blocks),
        dim=vit.embed_dim,
        grid=tuple(vit.patch_embed.grid_size),
        num_prefix_tokens=vit.num_prefix_tokens,
        has_class_token=getattr(vit, "cls_token", None) is not None,
        **widths,
    )


def _num_heads(vit: Any) -> int:
    return int(getattr(getattr(vit.blocks[0], "attn", None), "num_heads", 0))


def _block_widths(block: Any, name: str) -> _Widths:
    """Attention width, heads and hidden width of a block, if these determine all of its matrix products."""
    attn: Any = getattr(block, "attn", None)
    mlp: Any = getattr(block, "mlp", None)
    if not (is_known_attention(attn) and original_class(mlp) in (Mlp, GluMlp, SwiGLU)):
        parts = " with ".join(describe_class(part) for part in (block, attn, mlp) if part is not None)
        raise BackboneError(
            f"{name} consists of {parts}, which cannot be priced; supported are timm's attention and MLP classes"
        )
    dim, attn_dim, mlp_dim = attn.proj.out_features, attn.proj.in_features, mlp.fc2.in_features
    widths = _Widths(
        attn_dim=attn_dim,
        num_heads=attn.num_heads,
        mlp_dim=mlp_dim,
        num_attn_matrices=4 if attn.gate is None else 5,
        num_mlp_matrices=2 if original_class(mlp) is Mlp else 3,
    )
    matrices = sum(p.numel() for p in block.parameters() if p.ndim > 1)
    if matrices != widths.num_attn_matrices * dim * attn_dim + widths.num_mlp_matrices * dim * mlp_dim:
        raise BackboneError(
            f"{name} has additional linear layers that cannot be priced; "
            "supported are blocks of queries, keys, values, output and a feed-forward network"
        )
    return widths


def dense_params(model: nn.Module) -> int:
    """Number of parameters of a model, without those of its predictors and fast paths."""
    return sum(p.numel() for key, p in model.named_parameters() if not key.startswith("sparsity."))


class StemLayer(NamedTuple):
    """A convolution or linear layer of a patch embedding.

    Attributes:
        grid: Height and width of its output; number of rows and 1 for a linear layer.
        macs: Multiply-adds per position of this grid.
    """

    grid: tuple[int, int]
    macs: int


def stem_macs(stem: nn.Module, image_size: tuple[int, int], name: str) -> int:
    """Multiply-adds of the patch embedding of one image."""
    return sum(layer.grid[0] * layer.grid[1] * layer.macs for layer in stem_layers(stem, image_size, name))


def stem_layers(stem: nn.Module, image_size: tuple[int, int], name: str) -> list[StemLayer]:
    """The convolutions and linear layers of a patch embedding, in order of execution.

    The layers run on the meta device, where only shapes are computed.

    Args:
        stem: The patch embedding.
        image_size: Height and width in pixels.
        name: Name of the model, for the error message.

    Raises:
        BackboneError: There are matrices besides those of convolutions and linear layers.
    """
    layers: list[StemLayer] = []

    def count(module: nn.Module, args: object, output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        grid = (int(output.shape[2]), int(output.shape[3])) if isinstance(module, nn.Conv2d) else None
        layers.append(StemLayer(grid or (output.numel() // int(output.shape[-1]), 1), weight.numel()))

    counted = [m for m in stem.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    matrices = sum(p.numel() for p in stem.parameters() if p.ndim > 1)
    if matrices != sum(m.weight.numel() for m in counted):
        raise BackboneError(
            f"the patch embedding of {name} has layers that cannot be priced; use convolutions and linear layers only"
        )
    hooks = [module.register_forward_hook(count) for module in counted]
    weights = {key: torch.empty_like(value, device="meta") for key, value in stem.state_dict().items()}
    channels = next(m.in_channels for m in counted if isinstance(m, nn.Conv2d))
    image_BCHW = torch.empty(1, channels, *image_size, device="meta")
    was_training = {module: module.training for module in stem.modules()}
    try:
        stem.eval()
        functional_call(stem, weights, (image_BCHW.to(counted[0].weight.dtype),))
    finally:
        for module, training in was_training.items():
            module.training = training
        for hook in hooks:
            hook.remove()
    return layers


def _head_macs(vit: Any, name: str) -> tuple[int, int]:
    """Multiply-adds after the last block: per image, and per remaining patch token."""
    if vit.attn_pool is None and not vit.global_pool:
        raise BackboneError(f'{name} has no pooling (global_pool=""); build it with global_pool="avg" or "token"')
    macs = _linear_macs(vit.head) + _linear_macs(getattr(vit, "head_dist", None))
    if vit.attn_pool is None:
        return macs, _linear_macs(getattr(vit, "aux_head", None))
    pool = vit.attn_pool
    if original_class(pool) is not AttentionPoolLatent:
        raise BackboneError(
            f"{name} pools with {describe_class(pool)}, which cannot be priced; "
            'build it with global_pool="avg" or "token"'
        )
    width = pool.kv.in_features
    per_token = pool.kv.in_features * pool.kv.out_features + 2 * pool.latent_len * width
    once = [layer for layer in (pool.q, pool.proj) if isinstance(layer, nn.Linear)]
    if pool.mlp is not None:
        once += [pool.mlp.fc1, pool.mlp.fc2]
    macs += pool.latent_len * sum(layer.in_features * layer.out_features for layer in once)
    pools_prefix = getattr(vit, "pool_include_prefix", isinstance(vit, Eva))
    return macs + (vit.num_prefix_tokens * per_token if pools_prefix else 0), per_token


def _linear_macs(head: object) -> int:
    """Multiply-adds of a head per token; 0 if there is no head."""
    return head.in_features * head.out_features if isinstance(head, nn.Linear) else 0
