"""The family of isotropic ViTs: any timm `VisionTransformer` or `Eva`, in place, without a copy of its forward code.

Live modules change their class to a subclass that runs the steps of the schedule and then calls timm's own forward.
Weights, dense `state_dict` keys and `isinstance` survive; `restore_` gives the classes back.
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
from sparsesearch.backbones.sparsity import Sparsity, describe_class, own_class
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

__all__ = [
    "block", "blocks", "check_step", "embed", "equip_", "finish", "geometry", "matches", "new_state", "patch_",
    "patches", "plan_", "predictor_eps", "run", "token_geometry",
]  # fmt: skip

predictor_eps = 1e-5


def matches(model: nn.Module) -> bool:
    """Whether the model is of this family."""
    return isinstance(model, KINDS)


def check_step(model: Any, step: ResolvedStep) -> None:
    """Refuse a step that this very model cannot run.

    Raises:
        ScheduleError: It cannot.
    """
    if step.phase == "before_ffn" and not is_plain_block(model.blocks[step.block]):
        raise ScheduleError(
            f"before_ffn needs timm's plain Block or EvaBlock, but block {step.block} is a "
            f"{describe_class(model.blocks[step.block])}; use phase before_block"
        )
    if reads_attention(step.reducer, step.scorer):
        for index in range(step.last_attention - max(step.num_layers, 1) + 1, step.last_attention + 1):
            attn = getattr(model.blocks[index], "attn", None)
            if not is_known_attention(attn):
                asker = step.reducer.kind if step.scorer is None else step.scorer.kind
                raise ScheduleError(
                    f"{asker} at block {step.block} reads the attention of block {index}, a {describe_class(attn)}, "
                    "which cannot be read; use another scorer"
                )


def new_state(model: nn.Module, geometry: BackboneGeometry, generator: torch.Generator) -> TokenState:
    """The state that the modules of a model will share."""
    stage = geometry.stages[0]
    return TokenState(
        generator=generator,
        num_prefix_tokens=stage.num_prefix_tokens,
        num_tokens=stage.num_tokens,
        has_class_token=stage.has_class_token,
        has_rope=getattr(model, "rope", None) is not None,
    )


def patch_(model: Any, state: SparsityState) -> None:
    """Change the classes of a model, of its blocks, of their attentions and of attention pooling."""
    for index, block in enumerate(model.blocks):
        attn = getattr(block, "attn", None)
        if isinstance(attn, nn.Module) and is_known_attention(attn):
            change_class_(attn, SparseAttention, state, sparsity_block=index)
        change_class_(block, SparseBlock, state, sparsity_block=index)
    pool = getattr(model, "attn_pool", None)
    if isinstance(pool, nn.Module) and own_class(pool) is AttentionPoolLatent:
        change_class_(pool, SparseAttentionPool, state)
    change_class_(model, SparseViT, state)


def equip_(model: nn.Module, sparsity: Sparsity, step: ResolvedStep, *, seed: int) -> None:
    """Nothing: tokens that are dropped need no parameters."""


def plan_(model: nn.Module, sparsity: Sparsity, resolved: tuple[ResolvedStep, ...]) -> None:
    """Tell the state what attention has to note, and whether tokens are counted."""
    state = sparsity.state
    assert isinstance(state, TokenState)
    places = sorted(sparsity.locations, key=lambda place: place.name)
    probes = [place.as_step for place in places if is_learned(place.scorer)]
    planned: list[PlannedStep] = [step for steps in state.plan.values() for step in steps]
    state.captures = _captures(resolved)
    state.probe_captures = _captures((*resolved, *probes))
    reads_again = any(  # between before_ffn and the next before_block lies no attention
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
    """The patch tokens of what enters a block, `B x N x C`."""
    return entering[:, model.num_prefix_tokens :]


def embed(model: nn.Module, x_BCHW: Tensor) -> Tensor:
    """Everything in front of the first block: tokens `B x T x C`, prefix tokens first."""
    vit = as_vit(model)
    x_BTC: Tensor
    if isinstance(vit, Eva):
        x_BTC = vit.norm_pre(vit._pos_embed(vit.patch_embed(x_BCHW))[0])
    else:
        x_BTC = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(x_BCHW))))
    return x_BTC


def run(model: Any, x: Tensor, blocks: Sequence[tuple[int, int]]) -> Tensor:
    """Blocks that follow each other."""
    ropes = ropes_of(model)
    for _, index in blocks:
        x = model.blocks[index](x) if ropes is None else model.blocks[index](x, rope=ropes[index])
    return x


def finish(model: Any, x: Tensor) -> Tensor:
    """Everything behind the last block, up to the logits."""
    x = model.norm(x)
    sparsity = getattr(model, "sparsity", None)
    if isinstance(sparsity, Sparsity) and isinstance(sparsity.state, TokenState):
        sparsity.state.finish(x)
    logits: Tensor = model.forward_head(x)
    return logits


def ropes_of(vit: Any) -> list[Tensor] | None:
    """The rotary embeddings of each block, None for models without."""
    rope = getattr(vit, "rope", None)
    if rope is None:
        return None
    has_shape = getattr(rope, "feat_shape", None) is not None
    embedding = rope.get_embed() if has_shape else rope.get_embed(shape=vit.patch_embed.grid_size)
    return list(embedding) if getattr(vit, "rope_mixed", False) else [embedding] * len(vit.blocks)


def _captures(steps: tuple[ResolvedStep, ...]) -> dict[int, Captures]:
    """What the attention of each block has to note for steps behind it."""
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
