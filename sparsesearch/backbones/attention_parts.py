"""Projections of timm's attention modules, so that only the attention itself is replaced.

Shapes: `B` batch, `H` heads, `T` tokens incl. prefix, `C` channels, `D` channels of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.attention import Attention, AttentionRope
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from timm.models.eva import EvaAttention
from torch import Tensor, nn
from torch.nn import functional

from sparsesearch.backbones.sparsity import original_class

_KINDS = (Attention, AttentionRope, EvaAttention)
_PARTS = {
    "qkv", "q_proj", "k_proj", "v_proj", "q_norm", "k_norm", "attn_drop", "norm", "gate", "proj", "proj_drop",
}  # fmt: skip


def is_known_attention(attn: object) -> bool:
    """Whether a module is exactly one of timm's attention classes (not a subclass), with known parts only."""
    return (
        isinstance(attn, nn.Module)
        and original_class(attn) in _KINDS
        and {name for name, _ in attn.named_children()} <= _PARTS
        and getattr(attn, "num_kv_groups", 1) == 1
    )


def queries_keys_values(attn: Any, x_BTC: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Compute queries, keys and values, normalised and rotated, `B x H x T x D` each.

    Args:
        attn: A known attention module.
        x_BTC: Tokens.
        rope: Rotary embeddings of the patch tokens, sines then cosines, or None.
    """
    batch, num_tokens, _ = x_BTC.shape
    if attn.qkv is None:
        projected = (attn.q_proj(x_BTC), attn.k_proj(x_BTC), attn.v_proj(x_BTC))
        q, k, v = (part.reshape(batch, num_tokens, attn.num_heads, -1).transpose(1, 2) for part in projected)
    else:
        qkv = _joint_projection(attn, x_BTC).reshape(batch, num_tokens, 3, attn.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    q, k = attn.q_norm(q), attn.k_norm(k)
    if rope is not None:
        prefix, half = attn.num_prefix_tokens, getattr(attn, "rotate_half", False)
        q, k = (
            torch.cat((part[:, :, :prefix], apply_rot_embed_cat(part[:, :, prefix:], rope, half=half)), dim=2).type_as(
                v
            )
            for part in (q, k)
        )
    return q, k, v


def output(attn: Any, y_BHTD: Tensor, x_BTC: Tensor) -> Tensor:
    """Compute the output of an attention module from the weighted sums of the values.

    Args:
        attn: A known attention module.
        y_BHTD: The weighted sums.
        x_BTC: The input of the module.
    """
    y_BTC = y_BHTD.transpose(1, 2).flatten(2)
    y_BTC = attn.norm(y_BTC)
    if attn.gate is not None:
        y_BTC = y_BTC * attn.gate(x_BTC).sigmoid()
    projected_BTC: Tensor = attn.proj_drop(attn.proj(y_BTC))
    return projected_BTC


def _joint_projection(attn: Any, x_BTC: Tensor) -> Tensor:
    q_bias = getattr(attn, "q_bias", None)
    if q_bias is None:
        joint: Tensor = attn.qkv(x_BTC)
        return joint
    bias = torch.cat((q_bias, attn.k_bias, attn.v_bias))
    if attn.qkv_bias_separate:
        separate: Tensor = attn.qkv(x_BTC) + bias
        return separate
    return functional.linear(x_BTC, weight=attn.qkv.weight, bias=bias)
