"""Mixins for the modules of a sparse ViT: they run the steps of the schedule around timm's forward code.

Shapes: `B` batch, `T` tokens incl. prefix, `N` patch tokens, `C` channels.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from timm.layers.attention_pool import AttentionPoolLatent
from timm.models.eva import Eva, EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparsesearch.backbones.attention_parts import output, queries_keys_values
from sparsesearch.backbones.class_change import SparseModel, refuse_alone, refuse_proxies
from sparsesearch.backbones.intermediates import TokensInPlace
from sparsesearch.backbones.sparsity import original_class
from sparsesearch.errors import BackboneError
from sparsesearch.sparsify.attention import AttentionRequest, attend
from sparsesearch.sparsify.state import SparsityState
from sparsesearch.sparsify.token_call import TokenCall

_BLOCK_PARTS = {"norm1", "attn", "ls1", "drop_path1", "norm2", "mlp", "ls2", "drop_path2"}


class SparseViT(SparseModel):
    """Mixin for the model's class."""

    sparsity_container = "blocks"

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False, *, call: TokenCall | None = None
    ) -> Tensor:
        """As in timm, in the given call or one of its own."""
        refuse_proxies(x)
        call = self.sparsity_call(call)
        return self.forward_head(self.forward_features(x, attn_mask, is_causal, call=call), call=call)

    def forward_features(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False, *, call: TokenCall | None = None
    ) -> Tensor:
        """As in timm, in the given call or one of its own."""
        call = self.sparsity_call(call)
        masking: dict[str, Any] = {} if attn_mask is None else {"attn_mask": attn_mask}
        if is_causal:
            masking["is_causal"] = True
        x, ropes = embed_with_rope(self, x)
        model: Any = self
        if ropes is not None:
            for block, rope in zip(model.blocks, ropes, strict=False):
                x = block(x, rope=rope, call=call, **masking)
        else:
            x = model.blocks(x, call=call, **masking)
        features: Tensor = model.norm(x)
        call.finish(features)
        return self.sparsity_tied(features, call)

    def forward_intermediates(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As in timm. Features after a block cover the whole grid (`TokensInPlace`), the final ones what remains."""
        model: Any = self
        options = replace(model.sparsity_state.plain_options(training=self.training), record=True, keep_groups=True)
        call = self.sparsity_call(model.sparsity.begin(training=self.training, options=options))
        tokens = TokensInPlace(call)
        x = self.sparsity_tied(x, call)
        found = self.sparsity_intermediates(tokens.blocks(model.blocks), x, *args, **kwargs)
        if isinstance(found, list):
            return found
        assert tokens.remaining_BTC is not None
        features = model.norm(tokens.remaining_BTC)
        if isinstance(found, tuple):
            return features, found[1]
        return {**found, "image_features": features} if "image_features" in found else found

    def forward_head(self, x: Tensor, pre_logits: bool = False, *, call: TokenCall | None = None) -> Tensor:
        """As in timm, over the remaining tokens, each weighted by the number of patches it represents.

        Args:
            x: Result of `forward_features`.
            pre_logits: As in timm.
            call: The call that `forward_features` was given; required if the tokens have different weights.

        Raises:
            BackboneError: The call is required, or this kind of pooling does not support masked training.
        """
        model: Any = self
        if call is None:
            _check_equal_weights(self)
        elif call.masked:
            x = _weigh_for_pooling(self, x, call.policy_BT(x), why="masked training")
        else:
            size_BT = call.size_BT()
            if size_BT is not None and size_BT.shape[1] == x.shape[1]:
                if isinstance(model.attn_pool, AttentionPoolLatent):
                    return _attention_pooled(self, x, size_BT if call.plan.weighs_attention else None, pre_logits)
                x = _weigh_for_pooling(self, x, size_BT, why="merging")
        y: Tensor = super().forward_head(x, pre_logits=pre_logits)  # type: ignore[misc]
        return y


class SparseBlock(nn.Module):
    """Mixin for the class of every block: runs the steps before it, and between attention and feed-forward."""

    sparsity_state: SparsityState
    sparsity_block: int

    def forward(
        self, x: Tensor, *args: Any, call: TokenCall | None = None, rope: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """As in timm, with the steps of the schedule."""
        if call is None:
            refuse_alone(self.sparsity_state)
            return self._dense(x, *args, rope=rope, **kwargs)
        if (call.plan.steps or call.options.probe) and any(
            given is not None and given is not False for given in (*args, *kwargs.values())
        ):
            raise BackboneError("a sparse model does not support attention masks; call it with images only")
        block, is_supported = self.sparsity_block, isinstance(getattr(self, "attn", None), SparseAttention)
        if call.masked and not is_supported:
            raise BackboneError('masked training requires supported attention in every block; use mode="gather"')
        x = call.visit(x, location=(0, block, "before_block"))
        if rope is not None:
            rope = call.rope(rope, shared=rope.ndim == 2)
        request = call.request(block, x) if is_supported else None
        if request is not None:
            kwargs["attn_mask"] = request
        if call.steps_at((0, block, "before_ffn")):
            return _in_halves(self, x, call, rope=rope, **kwargs)
        if call.checkpoints and call.captures_of(block) is None:
            y: Tensor = checkpoint(partial(self._dense, *args, rope=rope, **kwargs), x, use_reentrant=False)
            return y
        return self._dense(x, *args, rope=rope, **kwargs)

    def _dense(self, x: Tensor, *args: Any, rope: Tensor | None, **kwargs: Any) -> Tensor:
        if rope is not None:
            kwargs["rope"] = rope
        y: Tensor = super().forward(x, *args, **kwargs)
        return y


class SparseAttention(nn.Module):
    """Mixin for the class of every supported attention: masks, token sizes, and records for scorers.

    The block passes what it has to do through timm's block, in the place of the attention mask.
    """

    def forward(
        self, x: Tensor, *args: Any, attn_mask: Tensor | AttentionRequest | None = None, **kwargs: Any
    ) -> Tensor:
        """As in timm; fused unless the full attention map is needed, or timm's `set_fused_attn` was turned off."""
        if not isinstance(attn_mask, AttentionRequest):
            y: Tensor = super().forward(x, *args, attn_mask=attn_mask, **kwargs)
            return y
        attn: Any = self
        q, k, v = queries_keys_values(attn, x, kwargs.get("rope"))
        attended = attend(
            q,
            k,
            v,
            scale=attn.scale,
            num_prefix_tokens=attn_mask.num_prefix_tokens,
            has_class_token=attn_mask.has_class_token,
            captures=attn_mask.captures,
            size_BT=attn_mask.size_BT,
            policy_BT=attn_mask.policy_BT,
            dropout=attn.attn_drop.p if self.training else 0.0,
            fused=attn.fused_attn,
        )
        attn_mask.note(attended)
        return output(attn, attended.y_BHTD, x)


def embed_with_rope(model: Any, x_BCHW: Tensor) -> tuple[Tensor, list[Tensor | None] | None]:
    """Run everything before the first block.

    Args:
        model: A `VisionTransformer` or `Eva`, sparse or not.
        x_BCHW: Images.

    Returns:
        Tokens `B x T x C`, prefix tokens first, and the rotary embeddings of each block of an `Eva`.
    """
    x_BNC = model.patch_embed(x_BCHW)
    if not isinstance(model, Eva):
        return model.norm_pre(model.patch_drop(model._pos_embed(x_BNC))), None
    x_BTC, rope = model._pos_embed(x_BNC)
    x_BTC, depth = model.norm_pre(x_BTC), len(model.blocks)
    if rope is None:
        return x_BTC, [None] * depth
    return x_BTC, list(rope) if getattr(model, "rope_mixed", False) else [rope] * depth


def _in_halves(block: Any, x_BTC: Tensor, call: TokenCall, *, rope: Tensor | None, **kwargs: Any) -> Tensor:
    """Run a plain pre-norm block part by part, with the steps between its two residual branches."""
    is_eva = original_class(block) is EvaBlock
    if rope is not None:
        kwargs["rope"] = rope
    branch_BTC = block.attn(block.norm1(x_BTC), **kwargs)
    branch_BTC = _scaled(branch_BTC, block.gamma_1) if is_eva else block.ls1(branch_BTC)
    x_BTC = x_BTC + block.drop_path1(branch_BTC)
    x_BTC = call.visit(x_BTC, location=(0, block.sparsity_block, "before_ffn"))
    branch_BTC = block.mlp(block.norm2(x_BTC))
    branch_BTC = _scaled(branch_BTC, block.gamma_2) if is_eva else block.ls2(branch_BTC)
    y_BTC: Tensor = x_BTC + block.drop_path2(branch_BTC)
    return y_BTC


def _scaled(x_BTC: Tensor, gamma: Tensor | None) -> Tensor:
    return x_BTC if gamma is None else gamma * x_BTC


def _weigh_for_pooling(model: Any, x_BTC: Tensor, weight_BT: Tensor, *, why: str) -> Tensor:
    """Scale tokens so that their plain average is the weighted average."""
    if model.attn_pool is not None or model.global_pool not in ("token", "avg"):
        if why == "merging":
            return x_BTC  # a maximum needs no weights
        raise BackboneError(
            f"{why} does not support global_pool={model.global_pool!r}; "
            'use "token" or "avg", or train with mode="gather"'
        )
    if model.global_pool == "token":
        return x_BTC
    pooled_BN = weight_BT if getattr(model, "pool_include_prefix", False) else weight_BT[:, model.num_prefix_tokens :]
    mean_B1 = pooled_BN.mean(dim=1, keepdim=True)
    return x_BTC * (weight_BT / mean_B1).unsqueeze(-1).to(x_BTC.dtype)


def _attention_pooled(model: Any, x_BTC: Tensor, size_BT: Tensor | None, pre_logits: bool) -> Tensor:
    """The head of a model with attention pooling, in which each token is weighted by its size."""
    if not model.pool_include_prefix:
        x_BTC = x_BTC[:, model.num_prefix_tokens :]
    bias_BT = None if size_BT is None else size_BT[:, size_BT.shape[1] - x_BTC.shape[1] :].log().to(x_BTC.dtype)
    pooled_BC = model.attn_pool(x_BTC, attn_mask=None if bias_BT is None else bias_BT[:, None, None, :])
    pooled_BC = model.head_drop(model.fc_norm(pooled_BC))
    y: Tensor = pooled_BC if pre_logits else model.head(pooled_BC)
    return y


def _check_equal_weights(model: Any) -> None:
    """Check that the head needs no weights of the tokens.

    Raises:
        BackboneError: It does.
    """
    state: SparsityState = model.sparsity_state
    is_average = model.attn_pool is not None or model.global_pool == "avg"
    if is_average and (state.plan.counts_size or (model.training and state.mode == "masked" and state.plan.steps)):
        raise BackboneError(
            "pooling weights each token by its size or decision; give forward_features and forward_head the same "
            "call=new_call(model), or call the whole model"
        )


def is_plain_block(block: nn.Module) -> bool:
    """Whether a block consists of exactly two pre-norm residual branches with known parts."""
    if original_class(block) is Block:
        return {name for name, _ in block.named_children()} == _BLOCK_PARTS
    return original_class(block) is EvaBlock
