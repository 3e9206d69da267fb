"""Multiply-adds of a schedule in closed form: exact to the integer, without a model or torch.

Linear layers, convolutions and matrix products are counted, including attention and predictors; elementwise operations
and normalisation are not. One multiply-add counts as one. A block with `n` tokens (including prefix tokens) costs
`n * 4 * dim * attn_dim + n^2 * 2 * attn_dim` for attention and `n * 2 * dim * mlp_dim` for its feed-forward network.
`backbones/traced.py` counts the same on a real model; the two must agree exactly.
"""

from __future__ import annotations

from sparsesearch.cost.fast_slow import fast_path_params, grid_rows
from sparsesearch.cost.rows import BlockCost
from sparsesearch.cost.selection import scorer_params
from sparsesearch.cost.tokens import token_rows
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.study.trial import Cost


class AnalyticCost:
    """Closed-form cost of any backbone."""

    def estimate(self, geometry: BackboneGeometry, schedule: Schedule) -> Cost:
        """Inference cost per image, without latency.

        Raises:
            ScheduleError: The schedule does not fit the backbone.
        """
        steps = schedule.resolve(geometry)
        params = geometry.params
        for step in steps:
            stage = geometry.stages[step.stage]
            params += scorer_params(step.scorer, dim=stage.dim, num_statistics=step.num_statistics(stage))
        params += fast_path_params(geometry, steps)
        return Cost(macs=sum(row.macs for row in block_table(geometry, schedule)), params=params)


def block_table(geometry: BackboneGeometry, schedule: Schedule) -> list[BlockCost]:
    """Multiply-adds per image of the stem, every block, the downsampling between stages, and the head.

    Raises:
        ScheduleError: The schedule does not fit the backbone.
    """
    steps = schedule.resolve(geometry)
    rows = [_single("stem", geometry.stages[0], geometry.stem_macs)]
    left = 0
    for index, stage in enumerate(geometry.stages):
        if stage.entry_macs:
            rows.append(_single(f"downsampling {index}", stage, stage.entry_macs))
        here = tuple(step for step in steps if step.stage == index)
        prefix = f"stage {index} " if len(geometry.stages) > 1 else ""
        make_rows = token_rows if stage.mixer == "attention" else grid_rows
        rows += make_rows(stage, here, prefix=prefix)
        left = rows[-1].tokens_out
    head = geometry.head_macs + geometry.head_token_macs * (left - geometry.stages[-1].num_prefix_tokens)
    rows.append(
        BlockCost(name="head", block=None, tokens_in=left, tokens_attention=left, tokens_out=left, other_macs=head)
    )
    return rows


def _single(name: str, stage: StageGeometry, macs: int) -> BlockCost:
    entry = stage.num_tokens + stage.num_prefix_tokens
    return BlockCost(name=name, block=None, tokens_in=entry, tokens_attention=entry, tokens_out=entry, other_macs=macs)


def dense_macs(geometry: BackboneGeometry) -> int:
    """Multiply-adds per image of the dense model."""
    return AnalyticCost().estimate(geometry, Schedule()).macs
