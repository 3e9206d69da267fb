"""The family of isotropic ViTs: any timm `VisionTransformer` or `Eva`, in place, without a copy of its forward code.

The class of each block is changed to a subclass that runs the steps of the schedule and then calls timm's forward.
Weights, dense `state_dict` keys and `isinstance` are preserved; `restore_` restores the classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sparsesearch.backbones.attention_parts import is_known_attention
from sparsesearch.backbones.class_change import SparseSequential, change_class_, check_forward
from sparsesearch.backbones.sparsity import Sparsity, describe_class
from sparsesearch.backbones.vit_blocks import (
    SparseAttention,
    SparseBlock,
    SparseViT,
    embed_with_rope,
    is_plain_block,
)
from sparsesearch.backbones.vit_geometry import KINDS, as_vit, geometry, token_geometry
from sparsesearch.errors import ScheduleError
from sparsesearch.schedule import ResolvedStep
from sparsesearch.schedule.methods import (
    ClassAttentionScorer,
    KeyNormScorer,
    Merge,
    SpotScorer,
    is_learned,
    reads_attention,
)
from sparsesearch.sparsify.attention import Captures
from sparsesearch.sparsify.call import Call
from sparsesearch.sparsify.model_plan import Plan
from sparsesearch.sparsify.state import SparsityState
from sparsesearch.sparsify.token_call import TokenCall

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
    "CALL", "block", "blocks", "check_step", "complete_plan", "embed", "equip_", "finish", "geometry", "matches",
    "patch_", "patches", "predictor_eps", "run", "token_geometry",
]  # fmt: skip

CALL = TokenCall
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


def patch_(model: Any, state: SparsityState) -> None:
    """Change the classes of a model, its blocks and their attention modules."""
    check_forward(model, Eva if isinstance(model, Eva) else VisionTransformer)
    for index, block in enumerate(model.blocks):
        attn = getattr(block, "attn", None)
        if isinstance(attn, nn.Module) and is_known_attention(attn):
            change_class_(attn, SparseAttention, state)
        change_class_(block, SparseBlock, state, sparsity_block=index)
    if isinstance(model.blocks, nn.Sequential):
        change_class_(model.blocks, SparseSequential, state)
    change_class_(model, SparseViT, state)


def equip_(model: nn.Module, sparsity: Sparsity, step: ResolvedStep, *, seed: int) -> None:
    """Do nothing: reductions of tokens have no parameters besides their scorer."""


def complete_plan(model: nn.Module, sparsity: Sparsity, resolved: tuple[ResolvedStep, ...], plan: Plan) -> Plan:
    """Add what attention layers must record, and what must be tracked of each token."""
    locations = sorted(sparsity.locations, key=lambda location: location.name)
    probes = [location.as_step for location in locations if is_learned(location.scorer)]
    reads_again = any(  # there is no attention between before_ffn and the next before_block
        isinstance(later.scorer, SpotScorer) and later.last_attention == earlier.last_attention
        for earlier, later in pairwise(resolved)
    )
    merges = [step.reducer for step in plan.steps if isinstance(step.reducer, Merge)]
    return replace(
        plan,
        captures=_captures(resolved),
        probe_captures=_captures((*resolved, *probes)),
        tracks_positions=getattr(model, "rope", None) is not None or any(not step.learned for step in plan.steps),
        forgets_statistics=not reads_again
        and all(
            step.scorer.layers == "since_last" for step in (*resolved, *probes) if isinstance(step.scorer, SpotScorer)
        ),
        counts_size=bool(merges),
        weighs_attention=any(merge.proportional_attention for merge in merges),
    )


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
    return embed_with_rope(as_vit(model), x_BCHW)[0]


def run(model: Any, x: Tensor, blocks: Sequence[tuple[int, int]], call: Call | None) -> Tensor:
    """Run consecutive blocks."""
    ropes = ropes_of(model)
    options: dict[str, Any] = {} if call is None else {"call": call}
    for _, index in blocks:
        x = model.blocks[index](x, **options) if ropes is None else model.blocks[index](x, rope=ropes[index], **options)
    return x


def finish(model: Any, x: Tensor, call: Call | None) -> Tensor:
    """Run everything after the last block, up to the logits."""
    x = model.norm(x)
    logits: Tensor
    if isinstance(call, TokenCall):
        call.finish(x)
        logits = model.forward_head(x, call=call)
    else:
        logits = model.forward_head(x)
    return logits


def ropes_of(vit: Any) -> list[Tensor] | None:
    """The rotary embeddings of each block, None for models without them."""
    rope = getattr(vit, "rope", None)
    if rope is None:
        return None
    has_shape = getattr(rope, "feat_shape", None) is not None
    embedding = rope.get_embed() if has_shape else rope.get_embed(shape=vit.patch_embed.grid_size)
    return list(embedding) if getattr(vit, "rope_mixed", False) else [embedding] * len(vit.blocks)


def _captures(steps: tuple[ResolvedStep, ...]) -> tuple[tuple[int, Captures], ...]:
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
    return tuple(sorted(found.items(), key=lambda item: item[0]))
