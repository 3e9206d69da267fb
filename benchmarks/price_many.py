"""Vectorised prices of schedules of an isotropic backbone, for landscapes that enumerate all schedules."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsesearch.cost.selection import scorer_macs
from sparsesearch.errors import BackboneError, ScheduleError
from sparsesearch.schedule import Phase
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.schedule.methods import Prune, Scorer, reads_attention


def isotropic_stage(geometry: BackboneGeometry) -> StageGeometry:
    """The only stage of an isotropic backbone.

    Raises:
        BackboneError: There are several stages.
    """
    if len(geometry.stages) != 1:
        raise BackboneError(
            f"{geometry.name} has {len(geometry.stages)} stages, but vectorised prices support isotropic ViTs only; "
            f"choose one such as deit_small_patch16_224"
        )
    return geometry.stages[0]


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
        blocks: `schedules x steps` 0-based blocks, non-decreasing in each row.
        counts: `schedules x steps` patch tokens after each step (without prefix tokens), non-increasing in each row and
            at most the initial number. A step that repeats the previous count is idle and costs nothing; such steps pad
            rows with fewer predictors.
        scorer: The scorer of every step.
        phase: The phase of every step.

    Returns:
        An int64 array with one entry per schedule.

    Raises:
        ScheduleError: The arrays do not describe schedules of this backbone.
    """
    stage = isotropic_stage(geometry)
    if reads_attention(Prune(), scorer):
        raise ScheduleError(f"vectorised prices do not support {scorer.kind}; use AnalyticCost")
    blocks_SP = np.asarray(blocks, dtype=np.int64)
    counts_SP = np.asarray(counts, dtype=np.int64)
    if blocks_SP.ndim != 2 or blocks_SP.shape != counts_SP.shape:
        raise ScheduleError(
            f"blocks {blocks_SP.shape} and counts {counts_SP.shape} must both be schedules x steps; give equal shapes"
        )
    rows = len(blocks_SP)
    alive_SQ = np.concatenate([np.full((rows, 1), stage.num_tokens, dtype=np.int64), counts_SP], axis=1)
    bounds_SQ = np.concatenate([np.zeros((rows, 1), dtype=np.int64), blocks_SP], axis=1)
    if (np.diff(alive_SQ) > 0).any() or (alive_SQ < 1).any():
        raise ScheduleError(f"counts must be between 1 and {stage.num_tokens}, and non-increasing in each row")
    if (np.diff(bounds_SQ) < 0).any() or (bounds_SQ >= stage.depth).any():
        raise ScheduleError(f"blocks must be between 0 and {stage.depth - 1}, and non-decreasing in each row")
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
    total_S += alive_SQ[:, -1] * geometry.head_token_macs
    result: NDArray[np.int64] = total_S
    return result
