"""The family of isotropic ViTs: any timm `VisionTransformer` or `Eva`, in place, without a copy of its forward code.

The class of each module is changed to a subclass that runs the steps of the schedule and then calls timm's forward.
Weights, dense `state_dict` keys and `isinstance` are preserved; `restore_` restores the classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from timm.layers.attention_pool import AttentionPoolLatent
from timm.models.eva import Eva
from torch import Tensor, nn

from sparsesearch.backbones.attention_parts import is_known_attention
from sparsesearch.backbones.family import change_class_
from sparsesearch.backbones.sparsity import Sparsity, describe_class, original_class
from sparsesearch.backbones.vit_blocks import (
    SparseAttention,
    SparseAttentionPool,
    SparseBlock,
    SparseViT,
    is_plain_block,
)
from sparsesearch.backbones.vit_geometry import KINDS, as_vit, geometry, token_geometry
from sparsesearch.errors import ScheduleError
from sparsesearch.schedule import ResolvedStep
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import (
    ClassAttentionScorer,
    KeyNormScorer,
    Merge,
    SpotScorer,
    is_learned,
    reads_attention,
)
from sparsesearch.sparsify.attention import Captures
from sparsesearch.sparsify.state import PlannedStep, SparsityState
from sparsesearch.sparsify.token_state import TokenState

DESCRIPTION = "timm's VisionTransformer and Eva models"
TIMM_MODULES = (
    "timm.models.vision_transformer",
    "timm.models.deit",
    "timm.models.vision_transformer_hybrid",
    "timm.models.eva",
)
ALIASES = {
    "deit_t": "deit_tiny_patch16_224",
    "deit_tiny": "deit_tiny_patch16_224",
    "deit_s": "deit_small_patch16_224",
    "deit_small": "deit_small_patch16_224",
    "deit_b": "deit_base_patch16_224",
    "deit_base": "deit_base_patch16_224",
}


__all__ = [
    "block", "blocks", "check_step", "embed", "equip_", "finish", "geometry", "matches", "new_state", "patch_",
    "patches", "plan_", "predictor_eps", "run", "token_geometry",
]  # fmt: skip

predictor_eps = 1e-5


def matches(model: nn.Module) -> bool:
    """Whether the model is of this family."""
    return isinstance(model, KINDS)


def check_step(model: Any, step: ResolvedStep) -> None:
    """Check that this model can run a step.

    Raises:
        ScheduleError: The model cannot run the step.
    """
    if step.phase == "before_ffn" and not is_plain_block(model.blocks[step.block]):
        raise ScheduleError(
            f"phase before_ffn requires timm's Block or EvaBlock, but block {step.block} is a "
            f"{describe_class(model.blocks[step.block])}; use phase before_block"
        )
    if reads_attention(step.reducer, step.scorer):
        for index in range(step.last_attention - max(step.num_layers, 1) + 1, step.last_attention + 1):
            attn = getattr(model.blocks[index], "attn", None)
            if not is_known_attention(attn):
                reader = step.reducer.kind if step.scorer is None else step.scorer.kind
                raise ScheduleError(
                    f"{reader} at block {step.block} reads the attention of block {index}, but {describe_class(attn)} "
                    "is not supported; use another scorer"
                )


def new_state(model: nn.Module, geometry: BackboneGeometry, generator: torch.Generator) -> TokenState:
    """Create the state that the modules of a model share."""
    stage = geometry.stages[0]
    return TokenState(
        generator=generator,
        num_prefix_tokens=stage.num_prefix_tokens,
        num_tokens=stage.num_tokens,
        has_class_token=stage.has_class_token,
        has_rope=getattr(model, "rope", None) is not None,
    )


def patch_(model: Any, state: SparsityState) -> None:
    """Change the classes of a model, its blocks, their attention modules and attention pooling."""
    for index, block in enumerate(model.blocks):
        attn = getattr(block, "attn", None)
        if isinstance(attn, nn.Module) and is_known_attention(attn):
            change_class_(attn, SparseAttention, state, sparsity_block=index)
        change_class_(block, SparseBlock, state, sparsity_block=index)
    pool = getattr(model, "attn_pool", None)
    if isinstance(pool, nn.Module) and original_class(pool) is AttentionPoolLatent:
        change_class_(pool, SparseAttentionPool, state)
    change_class_(model, SparseViT, state)


def equip_(model: nn.Module, sparsity: Sparsity, step: ResolvedStep, *, seed: int) -> None:
    """Do nothing: reductions of tokens have no parameters besides their scorer."""


def plan_(model: nn.Module, sparsity: Sparsity, resolved: tuple[ResolvedStep, ...]) -> None:
    """Set in the state what attention layers must record, and whether token sizes are tracked."""
    state = sparsity.state
    assert isinstance(state, TokenState)
    locations = sorted(sparsity.locations, key=lambda location: location.name)
    probes = [location.as_step for location in locations if is_learned(location.scorer)]
    planned: list[PlannedStep] = [step for steps in state.plan.values() for step in steps]
    state.captures = _captures(resolved)
    state.probe_captures = _captures((*resolved, *probes))
    reads_again = any(  # there is no attention between before_ffn and the next before_block
        isinstance(later.scorer, SpotScorer) and later.last_attention == earlier.last_attention
        for earlier, later in pairwise(resolved)
    )
    state.forgets_statistics = not reads_again and all(
        step.scorer.layers == "since_last" for step in (*resolved, *probes) if isinstance(step.scorer, SpotScorer)
    )
    merges = [step.reducer for step in planned if isinstance(step.reducer, Merge)]
    state.counts_size = bool(merges)
    state.weighs_attention = any(merge.proportional_attention for merge in merges)


def blocks(model: Any) -> list[tuple[int, int]]:
    """Stage and block of every block, in order of execution."""
    return [(0, index) for index in range(len(model.blocks))]


def block(model: Any, stage: int, block: int) -> nn.Module:
    """One block."""
    found: nn.Module = model.blocks[block]
    return found


def patches(model: Any, entering: Tensor) -> Tensor:
    """The patch tokens of the input of a block, `B x N x C`."""
    return entering[:, model.num_prefix_tokens :]


def embed(model: nn.Module, x_BCHW: Tensor) -> Tensor:
    """Run everything before the first block: tokens `B x T x C`, prefix tokens first."""
    vit = as_vit(model)
    x_BTC: Tensor
    if isinstance(vit, Eva):
        x_BTC = vit.norm_pre(vit._pos_embed(vit.patch_embed(x_BCHW))[0])
    else:
        x_BTC = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(x_BCHW))))
    return x_BTC


def run(model: Any, x: Tensor, blocks: Sequence[tuple[int, int]]) -> Tensor:
    """Run consecutive blocks."""
    ropes = ropes_of(model)
    for _, index in blocks:
        x = model.blocks[index](x) if ropes is None else model.blocks[index](x, rope=ropes[index])
    return x


def finish(model: Any, x: Tensor) -> Tensor:
    """Run everything after the last block, up to the logits."""
    x = model.norm(x)
    sparsity = getattr(model, "sparsity", None)
    if isinstance(sparsity, Sparsity) and isinstance(sparsity.state, TokenState):
        sparsity.state.finish(x)
    logits: Tensor = model.forward_head(x)
    return logits


def ropes_of(vit: Any) -> list[Tensor] | None:
    """The rotary embeddings of each block, None for models without them."""
    rope = getattr(vit, "rope", None)
    if rope is None:
        return None
    has_shape = getattr(rope, "feat_shape", None) is not None
    embedding = rope.get_embed() if has_shape else rope.get_embed(shape=vit.patch_embed.grid_size)
    return list(embedding) if getattr(vit, "rope_mixed", False) else [embedding] * len(vit.blocks)


def _captures(steps: tuple[ResolvedStep, ...]) -> dict[int, Captures]:
    """What the attention of each block must record for later steps."""
    found: dict[int, Captures] = {}
    for step in steps:
        last = step.last_attention
        if isinstance(step.scorer, SpotScorer):
            for block in range(last - step.num_layers + 1, last + 1):
                found[block] = found.get(block, Captures()) | Captures(statistics=True)
        elif reads_attention(step.reducer, step.scorer):
            found[last] = found.get(last, Captures()) | Captures(
                class_row=isinstance(step.scorer, ClassAttentionScorer),
                key_norm=isinstance(step.scorer, KeyNormScorer),
                keys=isinstance(step.reducer, Merge),
            )
    return found
