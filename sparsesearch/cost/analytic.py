"""Multiply-adds of a schedule in closed form: exact to the integer, without a model and without a framework.

Counted are linear layers, convolutions and matrix products, attention and predictors included; elementwise work and
normalisation are not. One multiply-add counts as one. A block that is entered by `n` tokens (prefix tokens included)
costs `n * 4 * dim * attn_dim + n^2 * 2 * attn_dim` for attention and `n * 2 * dim * mlp_dim` for its feed-forward
network. `traced.py` counts the same on a real model; the two must agree exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsesearch.errors import BackboneError, ScheduleError
from sparsesearch.geometry import BackboneGeometry, StageGeometry
from sparsesearch.methods import Scorer
from sparsesearch.schedule import Phase, ResolvedStep, Schedule
from sparsesearch.trial import Cost

if TYPE_CHECKING:
    from sparsesearch.protocols import CostModel


@dataclass(frozen=True, kw_only=True)
class BlockCost:
    """One row of a cost table.

    Attributes:
        name: `stem`, `block 0`, ..., `head`.
        block: 0-based block, None for stem and head.
        tokens_in: Tokens that enter, prefix tokens included.
        tokens_attention: Tokens that attention works on (fewer than `tokens_in` behind a `before_block` step).
        tokens_out: Tokens that leave; the feed-forward network works on these.
        attention_macs: Multiply-adds of the projections and of the two attention products.
        mlp_macs: Multiply-adds of the feed-forward network.
        predictor_macs: Multiply-adds of the scorers at this block.
        other_macs: Multiply-adds of the stem or the head.
    """

    name: str
    block: int | None
    tokens_in: int
    tokens_attention: int
    tokens_out: int
    attention_macs: int = 0
    mlp_macs: int = 0
    predictor_macs: int = 0
    other_macs: int = 0

    @property
    def macs(self) -> int:
        """Multiply-adds of the whole row."""
        return self.attention_macs + self.mlp_macs + self.predictor_macs + self.other_macs


class AnalyticCost:
    """Closed-form cost of any isotropic ViT (protocol `CostModel`)."""

    def estimate(self, geometry: BackboneGeometry, schedule: Schedule) -> Cost:
        """Cost of one image at inference, without latency.

        Raises:
            BackboneError: The backbone is not isotropic.
            ScheduleError: The schedule names a block the backbone does not have.
        """
        stage = isotropic_stage(geometry)
        steps = schedule.resolve(geometry)
        macs = geometry.stem_macs + geometry.head_macs
        alive, prefix = stage.num_tokens, stage.num_prefix_tokens
        attention_from = mlp_from = 0
        for step in steps:
            attention_to = step.block + (step.phase == "before_ffn")
            macs += (attention_to - attention_from) * attention_macs(stage, alive + prefix)
            macs += (step.block - mlp_from) * mlp_macs(stage, alive + prefix)
            macs += alive * scorer_macs(step.scorer, dim=stage.dim)
            attention_from, mlp_from, alive = attention_to, step.block, step.num_tokens
        macs += (stage.depth - attention_from) * attention_macs(stage, alive + prefix)
        macs += (stage.depth - mlp_from) * mlp_macs(stage, alive + prefix)
        params = geometry.params + sum(scorer_params(step.scorer, dim=stage.dim) for step in steps)
        return Cost(macs=macs, params=params)


def isotropic_stage(geometry: BackboneGeometry) -> StageGeometry:
    """The only stage of an isotropic backbone.

    Raises:
        BackboneError: There are several stages.
    """
    if len(geometry.stages) != 1:
        raise BackboneError(
            f"{geometry.name} has {len(geometry.stages)} stages; the closed form prices isotropic ViTs only, "
            f"choose one such as deit_small_patch16_224"
        )
    return geometry.stages[0]


def attention_macs(stage: StageGeometry, num_tokens: int) -> int:
    """Multiply-adds of one block's attention over `num_tokens` tokens, prefix tokens included."""
    return num_tokens * stage.attn_projection_macs + num_tokens * num_tokens * stage.attn_pair_macs


def mlp_macs(stage: StageGeometry, num_tokens: int) -> int:
    """Multiply-adds of one block's feed-forward network over `num_tokens` tokens, prefix tokens included."""
    return num_tokens * stage.mlp_macs


def scorer_macs(scorer: Scorer, *, dim: int) -> int:
    """Multiply-adds of scoring one patch token of `dim` channels; scorers without parameters are free.

    Source: the layers of the DynamicViT predictor, arXiv:2106.02034, section 3.2.
    """
    if scorer.kind == "dynamicvit":
        half, quarter = dim // 2, dim // 4
        return dim * dim + dim * half + half * quarter + quarter * 2
    return 0


def scorer_params(scorer: Scorer, *, dim: int) -> int:
    """Parameters of one scorer for tokens of `dim` channels: linear layers with biases and a layer norm."""
    if scorer.kind == "dynamicvit":
        half, quarter = dim // 2, dim // 4
        norm = 2 * dim
        return norm + dim * dim + dim + dim * half + half + half * quarter + quarter + quarter * 2 + 2
    return 0


def dense_macs(geometry: BackboneGeometry) -> int:
    """Multiply-adds of one image through the unsparsified model."""
    return AnalyticCost().estimate(geometry, Schedule()).macs


def block_table(geometry: BackboneGeometry, schedule: Schedule) -> list[BlockCost]:
    """Where the multiply-adds of one image are spent: stem, every block, head.

    The rows add up to `AnalyticCost.estimate` exactly.

    Raises:
        BackboneError: The backbone is not isotropic.
        ScheduleError: The schedule names a block the backbone does not have.
    """
    stage = isotropic_stage(geometry)
    at_block: dict[int, list[ResolvedStep]] = {}
    for step in schedule.resolve(geometry):
        at_block.setdefault(step.block, []).append(step)
    prefix, alive = stage.num_prefix_tokens, stage.num_tokens
    entry = alive + prefix
    rows = [
        BlockCost(
            name="stem",
            block=None,
            tokens_in=entry,
            tokens_attention=entry,
            tokens_out=entry,
            other_macs=geometry.stem_macs,
        )
    ]
    for block in range(stage.depth):
        entry = attended = alive + prefix
        predictors = 0
        for step in at_block.get(block, []):
            predictors += alive * scorer_macs(step.scorer, dim=stage.dim)
            alive = step.num_tokens
            if step.phase == "before_block":
                attended = alive + prefix
        rows.append(
            BlockCost(
                name=f"block {block}",
                block=block,
                tokens_in=entry,
                tokens_attention=attended,
                tokens_out=alive + prefix,
                attention_macs=attention_macs(stage, attended),
                mlp_macs=mlp_macs(stage, alive + prefix),
                predictor_macs=predictors,
            )
        )
    left = alive + prefix
    rows.append(
        BlockCost(
            name="head",
            block=None,
            tokens_in=left,
            tokens_attention=left,
            tokens_out=left,
            other_macs=geometry.head_macs,
        )
    )
    return rows


def price_many(
    geometry: BackboneGeometry,
    *,
    blocks: ArrayLike,
    counts: ArrayLike,
    scorer: Scorer,
    phase: Phase = "before_block",
) -> NDArray[np.int64]:
    """Multiply-adds of many schedules at once, equal to `AnalyticCost.estimate` to the integer.

    Args:
        geometry: An isotropic backbone.
        blocks: `schedules x slots` 0-based blocks, not falling along a row.
        counts: `schedules x slots` patch tokens left behind each slot (prefix tokens not counted), not rising along
            a row and at most the initial number. A slot that repeats the count before it is idle and costs nothing;
            that is how rows with fewer predictors are filled up.
        scorer: The scorer of every step.
        phase: The phase of every step.

    Returns:
        An int64 array with one entry a schedule.

    Raises:
        ScheduleError: The arrays do not describe schedules of this backbone.
    """
    stage = isotropic_stage(geometry)
    blocks_SP = np.asarray(blocks, dtype=np.int64)
    counts_SP = np.asarray(counts, dtype=np.int64)
    if blocks_SP.ndim != 2 or blocks_SP.shape != counts_SP.shape:
        raise ScheduleError(
            f"blocks {blocks_SP.shape} and counts {counts_SP.shape} must both be schedules x slots; give equal shapes"
        )
    rows = len(blocks_SP)
    alive_SQ = np.concatenate([np.full((rows, 1), stage.num_tokens, dtype=np.int64), counts_SP], axis=1)
    bounds_SQ = np.concatenate([np.zeros((rows, 1), dtype=np.int64), blocks_SP], axis=1)
    if (np.diff(alive_SQ) > 0).any() or (alive_SQ < 1).any():
        raise ScheduleError(f"counts must lie in 1 to {stage.num_tokens} and not rise along a row")
    if (np.diff(bounds_SQ) < 0).any() or (bounds_SQ >= stage.depth).any():
        raise ScheduleError(f"blocks must lie in 0 to {stage.depth - 1} and not fall along a row")
    ends_SQ = np.concatenate([blocks_SP, np.full((rows, 1), stage.depth, dtype=np.int64)], axis=1)
    tokens_SQ = alive_SQ + stage.num_prefix_tokens
    attended_SQ = ends_SQ - bounds_SQ
    if phase == "before_ffn" and blocks_SP.shape[1]:
        attended_SQ = attended_SQ.copy()
        attended_SQ[:, 0] += 1
        attended_SQ[:, -1] -= 1
    attention_SQ = tokens_SQ * stage.attn_projection_macs + tokens_SQ * tokens_SQ * stage.attn_pair_macs
    total_S = (attended_SQ * attention_SQ).sum(axis=1) + ((ends_SQ - bounds_SQ) * tokens_SQ).sum(
        axis=1
    ) * stage.mlp_macs
    scored_S = (alive_SQ[:, :-1] * (np.diff(alive_SQ) < 0)).sum(axis=1)
    total_S += scored_S * scorer_macs(scorer, dim=stage.dim) + geometry.stem_macs + geometry.head_macs
    result: NDArray[np.int64] = total_S
    return result


if TYPE_CHECKING:
    _: CostModel = AnalyticCost()
