"""What the modules of a sparse ViT do in place of timm's: the steps of the schedule around timm's own forward code.

Shapes: `B` batch, `N` tokens incl. prefix, `H` heads, `D` channels of a head, `C` channels.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from timm.layers.attention import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from sparsesearch.errors import BackboneError
from sparsesearch.sparsify.state import SparsityState
from sparsesearch.sparsify.tokens import masked_softmax

_BLOCK_PARTS = {"norm1", "attn", "ls1", "drop_path1", "norm2", "mlp", "ls2", "drop_path2"}
_ATTENTION_PARTS = {"qkv", "q_norm", "k_norm", "attn_drop", "norm", "gate", "proj", "proj_drop"}


class _SparseViT(nn.Module):
    """Mixed into the model's class: what concerns the model as a whole."""

    sparsity_state: SparsityState

    def forward_features(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if getattr(self, "grad_checkpointing", False):
            raise BackboneError(
                "gradient checkpointing runs blocks twice and would choose tokens twice; "
                "call model.set_grad_checkpointing(False)"
            )
        features: Tensor = super().forward_features(x, *args, **kwargs)  # type: ignore[misc]
        self.sparsity_state.finish(features)
        return features

    def pool(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        state = self.sparsity_state
        if state.masks(self.training):
            x = _weigh_for_pooling(self, x, state)
        pooled: Tensor = super().pool(x, *args, **kwargs)  # type: ignore[misc]
        return pooled


class _SparseBlock(nn.Module):
    """Mixed into the class of every block: the steps in front of it, and between attention and feed-forward."""

    sparsity_state: SparsityState
    sparsity_block: int

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        state, block = self.sparsity_state, self.sparsity_block
        if block == 0:
            state.begin()
        steps_or_probes = state.plan or state.probe
        if steps_or_probes and any(given is not None and given is not False for given in (*args, *kwargs.values())):
            raise BackboneError("a sparse model takes no attention mask; call it with images only, or restore_ it")
        if state.masks(self.training) and not isinstance(getattr(self, "attn", None), _SparseAttention):
            raise BackboneError('masked training needs timm\'s plain Attention in every block; use mode="gather"')
        x = state.visit(x, place=(block, "before_block"), training=self.training)
        if state.steps_at((block, "before_ffn")):
            return _block_in_halves(self, x, state)
        y: Tensor = super().forward(x, *args, **kwargs)
        return y


class _SparseAttention(nn.Module):
    """Mixed into the class of every plain attention: the masked softmax of DynamicViT's training."""

    sparsity_state: SparsityState

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.sparsity_state.masks(self.training):
            return masked_attention(self, x, self.sparsity_state.policy_BN(x))
        y: Tensor = super().forward(x, *args, **kwargs)
        return y


def _block_in_halves(block: Any, x_BNC: Tensor, state: SparsityState) -> Tensor:
    """A plain pre-norm block from its own parts, with a visit between its two residual branches."""
    x_BNC = x_BNC + block.drop_path1(block.ls1(block.attn(block.norm1(x_BNC))))
    x_BNC = state.visit(x_BNC, place=(block.sparsity_block, "before_ffn"), training=block.training)
    branch_BNC: Tensor = block.drop_path2(block.ls2(block.mlp(block.norm2(x_BNC))))
    return x_BNC + branch_BNC


def masked_attention(attn: Any, x_BNC: Tensor, policy_BN: Tensor) -> Tensor:
    """Self-attention with a keep policy, from the parts of a timm `Attention`.

    Source: DynamicViT (arXiv:2106.02034), section 3.3.
    """
    batch, num_tokens, _ = x_BNC.shape
    qkv = attn.qkv(x_BNC).reshape(batch, num_tokens, 3, attn.num_heads, -1)
    q_BHND, k_BHND, v_BHND = (part.transpose(1, 2) for part in qkv.unbind(2))
    q_BHND, k_BHND = attn.q_norm(q_BHND), attn.k_norm(k_BHND)
    scores_BHNN = (q_BHND * attn.scale) @ k_BHND.transpose(-2, -1)
    weights_BHNN = attn.attn_drop(masked_softmax(scores_BHNN, policy_BN))
    y_BNC = (weights_BHNN @ v_BHND).transpose(1, 2).reshape(batch, num_tokens, -1)
    y_BNC = getattr(attn, "norm", nn.Identity())(y_BNC)
    gate = getattr(attn, "gate", None)
    if gate is not None:
        y_BNC = y_BNC * gate(x_BNC).sigmoid()
    projected_BNC: Tensor = attn.proj_drop(attn.proj(y_BNC))
    return projected_BNC


def _weigh_for_pooling(model: Any, x_BNC: Tensor, state: SparsityState) -> Tensor:
    """Scale tokens in masked training so that an average over all of them is one over the kept ones."""
    if model.attn_pool is None and model.global_pool == "token":
        return x_BNC
    if model.attn_pool is not None or model.global_pool != "avg":
        raise BackboneError(
            f"masked training cannot pool kept tokens only with global_pool={model.global_pool!r}; "
            'supported are "token" and "avg", or train with mode="gather"'
        )
    policy_BN = state.policy_BN(x_BNC)
    pooled_BN = policy_BN if model.pool_include_prefix else policy_BN[:, state.num_prefix_tokens :]
    mean_B1 = pooled_BN.mean(dim=1, keepdim=True)
    return x_BNC * (policy_BN / mean_B1).unsqueeze(-1).to(x_BNC.dtype)


def patch_(vit: Any, state: SparsityState) -> None:
    """Change the classes of a model, of its blocks and of their attentions, and hand each of them the state."""
    for index, block in enumerate(vit.blocks):
        attn = getattr(block, "attn", None)
        if type(attn) is Attention and _parts(attn) <= _ATTENTION_PARTS:
            _change_class_(attn, _SparseAttention, state)
        _change_class_(block, _SparseBlock, state)
        block.sparsity_block = index
    _change_class_(vit, _SparseViT, state)


def unpatch_(vit: nn.Module) -> None:
    """Give the modules of a model their own classes back."""
    for module in vit.modules():
        base = getattr(type(module), "sparsity_base", None)
        if base is not None:
            module.__class__ = base
            for name in ("sparsity_state", "sparsity_block"):
                module.__dict__.pop(name, None)


def is_plain_block(block: nn.Module) -> bool:
    """Whether a block is timm's pre-norm `Block`, which is known to be two residual branches of the same parts."""
    return getattr(type(block), "sparsity_base", type(block)) is Block and _parts(block) == _BLOCK_PARTS


def _parts(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}


def _change_class_(module: nn.Module, mixin: Any, state: SparsityState) -> None:
    base: Any = type(module)
    module.__class__ = _sparse_class(mixin, base)
    module.__dict__["sparsity_state"] = state


@cache
def _sparse_class(mixin: Any, base: Any) -> type[nn.Module]:
    return type(f"Sparse{base.__name__}", (mixin, base), {"sparsity_base": base, "__doc__": base.__doc__})
