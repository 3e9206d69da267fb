"""What a timm `VisionTransformer` is made of, as plain data, and which of them are supported.

Multiply-adds are exact or refused: whatever the closed form does not describe raises `BackboneError`.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.func import functional_call

from sparsesearch.errors import BackboneError
from sparsesearch.geometry import BackboneGeometry, StageGeometry

SUPPORTED = "supported are timm's VisionTransformer models (ViT, DeiT, DeiT-III, AugReg, CLIP, ...) and deit_pico"


def describe_class(model: object) -> str:
    """The name of a module's class as the user knows it."""
    kind: type = getattr(type(model), "sparsity_base", type(model))
    return kind.__name__


def as_vit(model: nn.Module) -> Any:
    """The model itself, if it is one that can be sparsified.

    Raises:
        BackboneError: It is not.
    """
    if not isinstance(model, VisionTransformer):
        raise BackboneError(f"{describe_class(model)} is not a timm VisionTransformer; {SUPPORTED}")
    if not isinstance(model.patch_drop, nn.Identity):
        raise BackboneError("patch_drop already drops tokens at random; build the model with patch_drop_rate=0")
    if not model.patch_embed.num_patches:
        raise BackboneError("the model has no token grid; build it with an image size of at least one patch")
    return model


def token_geometry(vit: Any) -> BackboneGeometry:
    """Blocks and token grid of a model, enough to resolve schedules but not to price them: all MACs are 0."""
    stage = StageGeometry(
        depth=len(vit.blocks),
        dim=vit.embed_dim,
        attn_dim=1,
        num_heads=1,
        mlp_dim=1,
        grid=tuple(vit.patch_embed.grid_size),
        num_prefix_tokens=vit.num_prefix_tokens,
    )
    return BackboneGeometry(
        name=describe_class(vit),
        image_size=tuple(vit.patch_embed.img_size),
        stages=(stage,),
        stem_macs=0,
        head_macs=0,
        params=0,
    )


def geometry(model: nn.Module, name: str) -> BackboneGeometry:
    """The shape of a model for costs and schedules.

    Args:
        model: A timm `VisionTransformer`, on any device (meta included), sparse or not.
        name: Its resolved name.

    Raises:
        BackboneError: The model is unsupported, or has parts that the closed form of the cost does not describe.
    """
    vit = as_vit(model)
    widths = {_block_widths(block, name) for block in vit.blocks}
    if len(widths) != 1:
        raise BackboneError(f"the blocks of {name} differ in width; only equal blocks can be priced")
    attn_dim, num_heads, mlp_dim = widths.pop()
    stage = StageGeometry(
        depth=len(vit.blocks),
        dim=vit.embed_dim,
        attn_dim=attn_dim,
        num_heads=num_heads,
        mlp_dim=mlp_dim,
        grid=tuple(vit.patch_embed.grid_size),
        num_prefix_tokens=vit.num_prefix_tokens,
    )
    return BackboneGeometry(
        name=name,
        image_size=tuple(vit.patch_embed.img_size),
        stages=(stage,),
        stem_macs=_stem_macs(vit, name),
        head_macs=_head_macs(vit, name),
        params=sum(p.numel() for key, p in vit.named_parameters() if not key.startswith("sparsity.")),
    )


def _block_widths(block: Any, name: str) -> tuple[int, int, int]:
    """Attention width, heads and hidden width of a block, if these three describe all of its matrix products."""
    attn: Any = getattr(block, "attn", None)
    mlp: Any = getattr(block, "mlp", None)
    if not (_is_a(attn, Attention) and _is_a(mlp, Mlp)):
        parts = " with ".join(describe_class(part) for part in (block, attn, mlp) if part is not None)
        raise BackboneError(f"{name} is built of {parts}, which cannot be priced; supported are Attention and Mlp")
    dim, attn_dim, mlp_dim = attn.qkv.in_features, attn.qkv.out_features // 3, mlp.fc1.out_features
    matrices = sum(p.numel() for p in block.parameters() if p.ndim > 1)
    if matrices != 4 * dim * attn_dim + 2 * dim * mlp_dim:
        raise BackboneError(
            f"{name} has linear layers (a gate, or a gated feed-forward) that cannot be priced; "
            "supported are blocks of qkv, proj, fc1 and fc2"
        )
    return attn_dim, attn.num_heads, mlp_dim


def _is_a(module: object, kind: type) -> bool:
    """Whether a module is of exactly this class, sparse or not; a subclass may compute something else."""
    return getattr(type(module), "sparsity_base", type(module)) is kind


def _stem_macs(vit: Any, name: str) -> int:
    """Multiply-adds of the patch embedding: of each convolution or linear layer, outputs times weights per output.

    The layers run on the meta device, where only shapes are computed.
    """
    stem: nn.Module = vit.patch_embed
    macs = 0

    def count(module: nn.Module, args: object, output: Tensor) -> None:
        nonlocal macs
        weight = module.weight
        assert isinstance(weight, Tensor)
        macs += output.numel() * weight[0].numel()

    counted = [m for m in stem.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    matrices = sum(p.numel() for p in stem.parameters() if p.ndim > 1)
    if matrices != sum(m.weight.numel() for m in counted):
        raise BackboneError(f"the patch embedding of {name} has layers that cannot be priced; use one of convolutions")
    hooks = [module.register_forward_hook(count) for module in counted]
    weights = {key: torch.empty_like(value, device="meta") for key, value in stem.state_dict().items()}
    channels = next(m.in_channels for m in counted if isinstance(m, nn.Conv2d))
    image_BCHW = torch.empty(1, channels, *vit.patch_embed.img_size, device="meta")
    was_training = {module: module.training for module in stem.modules()}
    try:
        stem.eval()
        functional_call(stem, weights, (image_BCHW.to(counted[0].weight.dtype),))
    finally:
        for module, training in was_training.items():
            module.training = training
        for hook in hooks:
            hook.remove()
    return macs


def _head_macs(vit: Any, name: str) -> int:
    """Multiply-adds behind the last block."""
    if vit.attn_pool is not None:
        raise BackboneError(
            f"{name} pools by attention, whose cost depends on the tokens left and cannot be priced; "
            'build it with global_pool="avg" or "token"'
        )
    if not vit.global_pool:
        raise BackboneError(f'{name} has no pooling (global_pool=""); build it with global_pool="avg" or "token"')
    heads = [vit.head, getattr(vit, "head_dist", nn.Identity())]
    return sum(head.in_features * head.out_features for head in heads if isinstance(head, nn.Linear))
