"""A ViT in three pieces, so that the output of its first blocks can be kept and resumed from.

`finish(run_blocks(embed(images), 0, depth))` is `model(images)`, bit for bit.

Shapes: `B` batch, `N` tokens incl. prefix, `C` channels, `H` and `W` pixels.
"""

from __future__ import annotations

from typing import Any

from timm.models.eva import Eva
from torch import Tensor, nn

from sparsesearch.backbones.sparsity import Sparsity
from sparsesearch.backbones.vit_geometry import as_vit
from sparsesearch.sparsify.token_state import TokenState


def embed(model: nn.Module, x_BCHW: Tensor) -> Tensor:
    """Everything in front of the first block.

    Args:
        model: A timm `VisionTransformer` or `Eva`, sparse or dense.
        x_BCHW: Images.

    Returns:
        Tokens `B x N x C`, prefix tokens first.
    """
    vit = as_vit(model)
    x_BNC: Tensor
    if isinstance(vit, Eva):
        x_BNC = vit.norm_pre(vit._pos_embed(vit.patch_embed(x_BCHW))[0])
    else:
        x_BNC = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(x_BCHW))))
    return x_BNC


def run_blocks(model: nn.Module, x_BNC: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
    """The blocks from `start` to before `stop`, with the steps of the schedule at each of them.

    If a step of the schedule lies in front of `start`, the call continues the one before it, which must have ended
    at `start`; otherwise the tokens may come from anywhere, for example from a cache.

    Args:
        model: A timm `VisionTransformer` or `Eva`, sparse or dense.
        x_BNC: Tokens as they arrive at block `start`.
        start: First block to run.
        stop: First block not to run; None for all that are left.

    Returns:
        Tokens `B x N x C` as they arrive at block `stop`.
    """
    vit = as_vit(model)
    sparsity = getattr(vit, "sparsity", None)
    if isinstance(sparsity, Sparsity) and all(block >= start for _, block, _ in sparsity.state.plan):
        sparsity.state.begin()
    ropes = ropes_of(vit)
    for index, block in list(enumerate(vit.blocks))[start:stop]:
        x_BNC = block(x_BNC) if ropes is None else block(x_BNC, rope=ropes[index])
    return x_BNC


def finish(model: nn.Module, x_BNC: Tensor) -> Tensor:
    """Everything behind the last block.

    Args:
        model: A timm `VisionTransformer` or `Eva`, sparse or dense.
        x_BNC: Tokens behind the last block.

    Returns:
        Logits, `B x` classes.
    """
    vit = as_vit(model)
    x_BNC = vit.norm(x_BNC)
    sparsity = getattr(vit, "sparsity", None)
    if isinstance(sparsity, Sparsity) and isinstance(sparsity.state, TokenState):
        sparsity.state.finish(x_BNC)
    logits: Tensor = vit.forward_head(x_BNC)
    return logits


def ropes_of(vit: Any) -> list[Tensor] | None:
    """The rotary embeddings of each block, None for models without."""
    rope = getattr(vit, "rope", None)
    if rope is None:
        return None
    has_shape = getattr(rope, "feat_shape", None) is not None
    embedding = rope.get_embed() if has_shape else rope.get_embed(shape=vit.patch_embed.grid_size)
    return list(embedding) if getattr(vit, "rope_mixed", False) else [embedding] * len(vit.blocks)
