"""Cost of the blocks of an isotropic stage with decreasing token counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from sparsesearch.cost.rows import BlockCost
from sparsesearch.cost.selection import Count, matching_macs, scorer_macs
from sparsesearch.schedule import ResolvedStep
from sparsesearch.schedule.geometry import StageGeometry
from sparsesearch.schedule.methods import ClassAttentionScorer, Scorer, SpotScorer


class Reading(Protocol):
    """The attributes of a step that determine which attention it reads, for example of a `ResolvedStep`."""

    @property
    def scorer(self) -> Scorer | None:
        """Ranks the tokens; None for a merge."""

    @property
    def last_attention(self) -> int:
        """The block whose attention is the last one before the step."""

    @property
    def num_layers(self) -> int:
        """Number of attention layers whose statistics SPOT reads; 0 for other scorers."""


def attention_macs(stage: StageGeometry, num_tokens: Count) -> Count:
    """Multiply-adds of the attention of one block over `num_tokens` tokens (or an array), including prefix tokens."""
    return num_tokens * stage.attn_projection_macs + num_tokens * num_tokens * stage.attn_pair_macs


def feed_forward_macs(stage: StageGeometry, num_tokens: Count) -> Count:
    """Multiply-adds of the feed-forward network of one block over `num_tokens` tokens (or an array)."""
    return num_tokens * stage.mlp_macs


def class_row_macs(stage: StageGeometry, num_tokens: Count) -> Count:
    """Multiply-adds of the attention row of the class token, which fused attention does not return."""
    return num_tokens * stage.attn_dim


def token_rows(stage: StageGeometry, steps: tuple[ResolvedStep, ...], *, prefix: str = "") -> list[BlockCost]:
    """One row per block.

    Args:
        stage: A stage with global attention.
        steps: The steps of this stage.
        prefix: Prefix of the names of rows.
    """
    rows_read = class_rows(steps)
    extra = stage.num_prefix_tokens
    alive = stage.num_tokens
    rows: list[BlockCost] = []
    for block in range(stage.depth):
        here = [step for step in steps if step.block == block]
        entry = attended = alive + extra
        scored = matched = 0
        for step in here:
            scored += step.num_before * scorer_macs(
                step.scorer, dim=stage.dim, num_statistics=step.num_statistics(stage)
            )
            matched += matching_macs(step.reducer, stage, step.num_before)
            alive = step.num_tokens
            if step.phase == "before_block":
                attended = alive + extra
        if block in rows_read:
            matched += class_row_macs(stage, attended)
        rows.append(
            BlockCost(
                name=f"{prefix}block {block}",
                block=block,
                tokens_in=entry,
                tokens_attention=attended,
                tokens_out=alive + extra,
                tokens_slow=alive + extra,
                attention_macs=attention_macs(stage, attended),
                mlp_macs=feed_forward_macs(stage, alive + extra),
                predictor_macs=scored,
                matching_macs=matched,
            )
        )
    return rows


def class_rows(steps: Iterable[Reading]) -> set[int]:
    """Blocks whose class row is computed separately: it is read, and no full attention map is available."""
    needed: set[int] = set()
    full_maps: set[int] = set()
    for step in steps:
        if isinstance(step.scorer, ClassAttentionScorer):
            needed.add(step.last_attention)
        elif isinstance(step.scorer, SpotScorer):
            full_maps.update(range(step.last_attention - step.num_layers + 1, step.last_attention + 1))
    return needed - full_maps
