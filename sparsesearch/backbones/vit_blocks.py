"""Mixins for the modules of a sparse ViT: they run the steps of the schedule around timm's forward code.

Shapes: `B` batch, `T` tokens incl. prefix, `N` patch tokens, `C` channels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparsesearch.backbones.attention_parts import output, queries_keys_values
from sparsesearch.backbones.checkpointing import checkpoints_in_blocks
from sparsesearch.backbones.sparsity import original_class
from sparsesearch.errors import BackboneError
from sparsesearch.sparsify.attention import Captures, attend
from sparsesearch.sparsify.token_state import TokenState, TokenTrace

_BLOCK_PARTS = {"norm1", "attn", "ls1", "drop_path1", "norm2", "mlp", "ls2", "drop_path2"}
_NOTHING = Captures()
_STATE_OF_PASS = ("plan", "captures", "probe", "probe_captures", "mode", "weighs_attention")


class SparseViT(nn.Module):
    """Mixin for the model's class."""

    sparsity_state: TokenState

    def forward_features(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As in timm; also records the final tokens."""
        state = self.sparsity_state
        with checkpoints_in_blocks([self], state, training=self.training):
            features: Tensor = super().forward_features(x, *args, **kwargs)  # type: ignore[misc]
        state.finish(features)
        return features

    def pool(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As in timm, over the remaining tokens, each weighted by the number of patches it represents."""
        state = self.sparsity_state
        if state.masks(self.training):
            x = _weigh_for_pooling(self, x, state.policy_BT(x), state, why="masked training")
        else:
            size_BT = state.size_BT()
            if size_BT is not None and size_BT.shape[1] == x.shape[1]:
                x = _weigh_for_pooling(self, x, size_BT, state, why="merging")
        pooled: Tensor = super().pool(x, *args, **kwargs)  # type: ignore[misc]
        return pooled


class SparseBlock(nn.Module):
    """Mixin for the class of every block: runs the steps before it, and between attention and feed-forward."""

    sparsity_state: TokenState
    sparsity_block: int

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As in timm, with the steps of the schedule."""
        state, block = self.sparsity_state, self.sparsity_block
        if block == 0:
            state.begin()
        rope = kwargs.pop("rope", None)
        if (state.plan or state.probe) and any(
            given is not None and given is not False for given in (*args, *kwargs.values())
        ):
            raise BackboneError("a sparse model does not support attention masks; call it with images only")
        if state.masks(self.training) and not isinstance(getattr(self, "attn", None), SparseAttention):
            raise BackboneError('masked training requires supported attention in every block; use mode="gather"')
        x = state.visit(x, location=(0, block, "before_block"), training=self.training)
        if rope is not None:
            kwargs["rope"] = state.rope(rope, shared=rope.ndim == 2)
        if state.steps_at((0, block, "before_ffn")):
            return _in_halves(self, x, state, **kwargs)
        if state.checkpoints and state.captures_of(block) is None:
            return _checkpointed(partial(super().forward, *args, **kwargs), x, state)
        y: Tensor = super().forward(x, *args, **kwargs)
        return y


class SparseAttention(nn.Module):
    """Mixin for the class of every supported attention: masks, token sizes, and records for scorers."""

    sparsity_state: TokenState
    sparsity_block: int

    def forward(self, x: Tensor, rope: Tensor | None = None, **kwargs: Any) -> Tensor:
        """As in timm; fused unless the full attention map is needed."""
        state = self.sparsity_state
        captures = state.captures_of(self.sparsity_block)
        masked = state.masks(self.training)
        size_BT = state.size_BT() if state.weighs_attention else None
        if captures is None and size_BT is None and not masked:
            if rope is not None:
                kwargs["rope"] = rope
            y: Tensor = super().forward(x, **kwargs)
            return y
        attn: Any = self
        q, k, v = queries_keys_values(attn, x, rope)
        attended = attend(
            q,
            k,
            v,
            scale=attn.scale,
            num_prefix_tokens=state.num_prefix_tokens,
            has_class_token=state.has_class_token,
            captures=captures or _NOTHING,
            size_BT=size_BT,
            policy_BT=state.policy_BT(x) if masked else None,
            dropout=attn.attn_drop.p if self.training else 0.0,
        )
        state.note(attended)
        return output(attn, attended.y_BHTD, x)


class SparseAttentionPool(nn.Module):
    """Mixin for the class of attention pooling: each token is weighted by the number of patches it represents."""

    sparsity_state: TokenState

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As in timm."""
        state = self.sparsity_state
        size_BT = state.size_BT() if state.weighs_attention else None
        if size_BT is not None and not args and not kwargs:
            bias_BT = size_BT[:, size_BT.shape[1] - x.shape[1] :].log().to(x.dtype)
            kwargs["attn_mask"] = bias_BT[:, None, None, :]
        y: Tensor = super().forward(x, *args, **kwargs)
        return y


def _checkpointed(forward: Callable[[Tensor], Tensor], x_BTC: Tensor, state: TokenState) -> Tensor:
    """Run a block whose activations are recomputed in the backward pass, under the state of the forward pass."""
    then = {name: getattr(state, name) for name in _STATE_OF_PASS}

    def run(x_BTC: Tensor, decision_BN: Tensor | None, size_BN: Tensor | None) -> Tensor:
        now = {name: getattr(state, name) for name in (*_STATE_OF_PASS, "trace")}
        state.trace = TokenTrace(decision_BN=decision_BN, size_BN=size_BN)
        try:
            for name, value in then.items():
                setattr(state, name, value)
            return forward(x_BTC)
        finally:
            for name, value in now.items():
                setattr(state, name, value)

    y_BTC: Tensor = checkpoint(run, x_BTC, state.trace.decision_BN, state.trace.size_BN, use_reentrant=False)
    return y_BTC


def _in_halves(block: Any, x_BTC: Tensor, state: TokenState, **kwargs: Any) -> Tensor:
    """Run a plain pre-norm block part by part, with the steps between its two residual branches."""
    is_eva = original_class(block) is EvaBlock
    branch_BTC = block.attn(block.norm1(x_BTC), **kwargs)
    branch_BTC = _scaled(branch_BTC, block.gamma_1) if is_eva else block.ls1(branch_BTC)
    x_BTC = x_BTC + block.drop_path1(branch_BTC)
    x_BTC = state.visit(x_BTC, location=(0, block.sparsity_block, "before_ffn"), training=block.training)
    branch_BTC = block.mlp(block.norm2(x_BTC))
    branch_BTC = _scaled(branch_BTC, block.gamma_2) if is_eva else block.ls2(branch_BTC)
    y_BTC: Tensor = x_BTC + block.drop_path2(branch_BTC)
    return y_BTC


def _scaled(x_BTC: Tensor, gamma: Tensor | None) -> Tensor:
    return x_BTC if gamma is None else gamma * x_BTC


def _weigh_for_pooling(model: Any, x_BTC: Tensor, weight_BT: Tensor, state: TokenState, *, why: str) -> Tensor:
    """Scale tokens so that their plain average is the weighted average."""
    if model.attn_pool is not None or model.global_pool not in ("token", "avg"):
        if why == "merging":
            return x_BTC  # a maximum needs no weights, and attention pooling applies its own
        raise BackboneError(
            f"{why} does not support global_pool={model.global_pool!r}; "
            'use "token" or "avg", or train with mode="gather"'
        )
    if model.global_pool == "token":
        return x_BTC
    pooled_BN = weight_BT if getattr(model, "pool_include_prefix", False) else weight_BT[:, state.num_prefix_tokens :]
    mean_B1 = pooled_BN.mean(dim=1, keepdim=True)
    return x_BTC * (weight_BT / mean_B1).unsqueeze(-1).to(x_BTC.dtype)


def is_plain_block(block: nn.Module) -> bool:
    """Whether a block consists of exactly two pre-norm residual branches with known parts."""
    if original_class(block) is Block:
        return {name for name, _ in block.named_children()} == _BLOCK_PARTS
    return original_class(block) is EvaBlock
