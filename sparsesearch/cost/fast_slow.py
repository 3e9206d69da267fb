"""Cost of the blocks of a hierarchical stage with fast and slow paths."""

from __future__ import annotations

from sparsesearch.cost.rows import BlockCost
from sparsesearch.cost.selection import Count, scorer_macs
from sparsesearch.schedule import ResolvedStep
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.schedule.methods import FastPath, FastSlow, fast_path_macs


def slow_macs(stage: StageGeometry, num_slow: Count) -> Count:
    """Multiply-adds of the feed-forward network of one block over `num_slow` positions."""
    return num_slow * stage.mlp_macs


def fast_macs(stage: StageGeometry, num_slow: Count, fast_path: FastPath) -> Count:
    """Multiply-adds of the fast path of one block over all positions except `num_slow`."""
    return (stage.num_tokens - num_slow) * fast_path_macs(fast_path, dim=stage.dim)


def grid_rows(stage: StageGeometry, steps: tuple[ResolvedStep, ...], *, prefix: str = "") -> list[BlockCost]:
    """One row per block.

    Args:
        stage: A stage of convolutions or windows, whose token mixer is always dense.
        steps: The steps of this stage.
        prefix: Prefix of the names of rows.
    """
    num = stage.num_tokens
    slow = num
    fast_path: FastPath = "identity"
    rows: list[BlockCost] = []
    for block in range(stage.depth):
        scored = 0
        for step in steps:
            if step.block != block:
                continue
            assert isinstance(step.reducer, FastSlow)
            if step.num_tokens < num:
                scored += num * scorer_macs(step.scorer, dim=stage.dim)
            slow, fast_path = step.num_tokens, step.reducer.fast_path
        rows.append(
            BlockCost(
                name=f"{prefix}block {block}",
                block=block,
                tokens_in=num,
                tokens_attention=num,
                tokens_out=num,
                tokens_slow=slow,
                attention_macs=stage.mixer_macs,
                mlp_macs=slow_macs(stage, slow),
                fast_path_macs=fast_macs(stage, slow, fast_path),
                predictor_macs=scored,
            )
        )
    return rows


def fast_path_params(geometry: BackboneGeometry, steps: tuple[ResolvedStep, ...]) -> int:
    """Parameters of all fast paths in use: layer norm, linear layers with biases, and a layer scale in ConvNeXt.

    Args:
        geometry: The backbone.
        steps: Steps of all stages.
    """
    params = 0
    for index, stage in enumerate(geometry.stages):
        for row_block in range(stage.depth):
            in_force = [step for step in steps if step.stage == index and step.block <= row_block]
            if not in_force or not isinstance(in_force[-1].reducer, FastSlow):
                continue
            if in_force[-1].num_tokens < stage.num_tokens:
                params += _one_fast_path(in_force[-1].reducer.fast_path, stage)
    return params


def _one_fast_path(fast_path: FastPath, stage: StageGeometry) -> int:
    dim = stage.dim
    if fast_path == "identity":
        return 0
    biases = dim if fast_path == "linear" else dim + dim // 4
    scale = dim if stage.mixer == "convolution" else 0
    return 2 * dim + fast_path_macs(fast_path, dim=dim) + biases + scale
