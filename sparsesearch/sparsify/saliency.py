"""Where a trained teacher looks: the attention of its class token, as a target for predictors.

Shapes: `B` batch, `H` heads, `N` patch tokens, `T` tokens incl. prefix, `D` channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparsesearch.errors import BackboneError


def saliency_blocks(depth: int) -> range:
    """The blocks whose attention is averaged unless told otherwise: from 3/8 of the depth to the last."""
    return range(3 * depth // 8, depth)


@torch.no_grad()
def class_saliency(model: nn.Module, x_BCHW: Tensor, *, blocks: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
    """The teacher's logits, and how much its class token attends to each patch token.

    Only the class token's row of each attention map is computed, from the queries and keys of the forward pass that
    gives the logits.

    Args:
        model: A dense timm ViT with a class token; it runs in the mode that it is in.
        x_BCHW: Images.
        blocks: Which blocks to average over; None for `saliency_blocks`.

    Returns:
        Logits, and a `B x N` float32 tensor, non-negative, summing to 1 over the patch tokens of each image: the mean
        over heads and blocks, patch tokens in raster order.

    Raises:
        BackboneError: The model has no class token or no plain attention, or drops tokens.

    Source: EViT (arXiv:2202.07800), section 3.2, for the class token's attention as a measure of importance.
    """
    vit: Any = model
    if getattr(vit, "cls_token", None) is None:
        raise BackboneError(f"{type(model).__name__} has no class token, so there is no attention of it to learn from")
    chosen = list(saliency_blocks(len(vit.blocks)) if blocks is None else blocks)
    rows_BHT: list[Tensor] = []
    hooks = []
    try:
        for index in chosen:
            attn: Any = getattr(vit.blocks[index], "attn", None)
            if not isinstance(getattr(attn, "qkv", None), nn.Linear):
                raise BackboneError(f"block {index} of {type(model).__name__} has no joint qkv layer to read")
            hooks.append(attn.qkv.register_forward_hook(_reader(attn, rows_BHT)))
        logits: Tensor = model(x_BCHW)
    finally:
        for hook in hooks:
            hook.remove()
    num_prefix = vit.num_prefix_tokens
    if any(row.shape[-1] != num_prefix + vit.patch_embed.num_patches for row in rows_BHT):
        raise BackboneError("the teacher drops tokens; give it the empty schedule, or restore_ it")
    mean_BT = torch.stack([row.mean(dim=1) for row in rows_BHT]).mean(dim=0)
    patches_BN = mean_BT[:, num_prefix:]
    return logits, patches_BN / patches_BN.sum(dim=1, keepdim=True)


def _reader(attn: Any, rows_BHT: list[Tensor]) -> Any:
    """A forward hook of the qkv layer that appends the class token's attention."""

    def read(module: nn.Module, args: object, qkv_BTC: Tensor) -> None:
        q_BT, k_BT, _ = qkv_BTC.reshape(*qkv_BTC.shape[:2], 3, attn.num_heads, -1).unbind(2)
        q_BHD = attn.q_norm(q_BT[:, 0])
        k_BHTD = attn.k_norm(k_BT.transpose(1, 2))
        scores_BHT = (k_BHTD @ (q_BHD * attn.scale).unsqueeze(-1)).squeeze(-1)
        rows_BHT.append(scores_BHT.float().softmax(dim=-1))

    return read
