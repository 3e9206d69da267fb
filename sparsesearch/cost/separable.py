"""Multiply-adds as a sum over steps, each term depending on one token count, as the budget solver requires.

The terms are those of the closed form in `tokens` and `fast_slow`, grouped by step; every sum equals `AnalyticCost` to
the integer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.cost.fast_slow import fast_macs, slow_macs
from sparsesearch.cost.selection import matching_macs, scorer_macs
from sparsesearch.cost.tokens import attention_macs, class_row_macs, class_rows, feed_forward_macs
from sparsesearch.schedule import Schedule, last_attention, num_layers, num_statistics
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.schedule.methods import FastPath, FastSlow, Merge, Scorer
from sparsesearch.space.shape import ShapeStep
from sparsesearch.study.protocols import StepTables

if TYPE_CHECKING:
    from sparsesearch.study.protocols import Price

__all__ = ["MACS", "MacsPrice", "StepTables"]

Table = NDArray[np.int64]


class MacsPrice:
    """Exact multiply-adds (protocol `Price`)."""

    @property
    def unit(self) -> Literal["macs"]:
        """Multiply-adds."""
        return "macs"

    def tables(self, geometry: BackboneGeometry, steps: Sequence[ShapeStep]) -> StepTables:
        """The cost of each step, as int64 arrays."""
        base = geometry.stem_macs + geometry.head_macs
        tables: list[Table] = []
        last = len(geometry.stages) - 1
        for index, stage in enumerate(geometry.stages):
            here = [step for step in steps if step.stage == index]
            make = _token_tables if stage.mixer == "attention" else _grid_tables
            constant, found = make(stage, here, geometry.head_token_macs if index == last else 0)
            base += stage.entry_macs + constant
            tables += found
        return StepTables(base, tuple(tables))

    def of(self, geometry: BackboneGeometry, schedule: Schedule) -> int:
        """Multiply-adds per image."""
        return AnalyticCost().estimate(geometry, schedule).macs


MACS = MacsPrice()


class _Read(NamedTuple):
    """The attention that a step reads (protocol `tokens.Reading`)."""

    scorer: Scorer | None
    last_attention: int
    num_layers: int


def _token_tables(stage: StageGeometry, steps: Sequence[ShapeStep], left_macs: int) -> tuple[int, list[Table]]:
    """Multiply-adds of a stage with global attention: before its first step, and by step.

    Args:
        stage: The stage.
        steps: Its steps.
        left_macs: Multiply-adds per patch token left at the end.
    """
    reads: list[_Read] = []
    for step in steps:
        last = last_attention(step.block, step.phase)
        before = reads[-1].last_attention if reads else None
        reads.append(_Read(step.scorer, last, num_layers(step.scorer, last=last, last_before=before)))
    rows_read = class_rows(reads)
    found = []
    mlp_from = attention_from = 0
    for step, read in zip(steps, reads, strict=True):
        attention_to = read.last_attention + 1
        statistics = num_statistics(step.scorer, stage, num_layers=read.num_layers)
        found.append(
            _span(
                stage,
                num_attention=attention_to - attention_from,
                num_mlp=step.block - mlp_from,
                num_rows=sum(attention_from <= block < attention_to for block in rows_read) if rows_read else 0,
                macs_each=scorer_macs(step.scorer, dim=stage.dim, num_statistics=statistics),
                merge=step.reducer if isinstance(step.reducer, Merge) else None,
            )
        )
        mlp_from, attention_from = step.block, attention_to
    num_rows = sum(attention_from <= block for block in rows_read) if rows_read else 0
    found.append(
        _span(
            stage,
            num_attention=stage.depth - attention_from,
            num_mlp=stage.depth - mlp_from,
            num_rows=num_rows,
            macs_each=left_macs,
            merge=None,
        )
    )
    return int(found[0][-1]), found[1:]


@lru_cache(maxsize=2048)
def _span(
    stage: StageGeometry, *, num_attention: int, num_mlp: int, num_rows: int, macs_each: int, merge: Merge | None
) -> Table:
    """Multiply-adds from one step to the next, by patch tokens from 0 to the initial number.

    Args:
        stage: A stage with global attention.
        num_attention: Number of blocks whose attention is between the steps.
        num_mlp: Number of blocks whose feed-forward network is between the steps.
        num_rows: Number of class rows that are computed separately.
        macs_each: Multiply-adds of scoring (or of the head) per patch token that arrives at the next step.
        merge: The reducer of the next step if it is a merge, otherwise None.
    """
    num = np.arange(stage.num_tokens + 1)
    tokens = num + stage.num_prefix_tokens
    macs = num_attention * attention_macs(stage, tokens) + num_mlp * feed_forward_macs(stage, tokens)
    macs += num_rows * class_row_macs(stage, tokens) + macs_each * num
    if merge is not None:
        macs += matching_macs(merge, stage, num)
    macs.setflags(write=False)
    return macs


def _grid_tables(stage: StageGeometry, steps: Sequence[ShapeStep], left_macs: int) -> tuple[int, list[Table]]:
    """As `_token_tables` for a stage with fast paths, whose token mixer and scoring are always dense."""
    dense_until = steps[0].block if steps else stage.depth
    base = stage.depth * stage.mixer_macs + dense_until * slow_macs(stage, stage.num_tokens)
    base += stage.num_tokens * left_macs
    ends = [*(step.block for step in steps[1:]), stage.depth]
    tables = []
    for step, end in zip(steps, ends, strict=True) if steps else ():
        assert isinstance(step.reducer, FastSlow)
        base += stage.num_tokens * scorer_macs(step.scorer, dim=stage.dim)
        tables.append(_slow_span(stage, num_blocks=end - step.block, fast_path=step.reducer.fast_path))
    return base, tables


@lru_cache(maxsize=256)
def _slow_span(stage: StageGeometry, *, num_blocks: int, fast_path: FastPath) -> Table:
    """Multiply-adds of the feed-forward networks and fast paths of several blocks, by positions on the slow path."""
    num = np.arange(stage.num_tokens + 1)
    macs = num_blocks * (slow_macs(stage, num) + fast_macs(stage, num, fast_path))
    macs.setflags(write=False)
    return macs


if TYPE_CHECKING:
    _: Price = MacsPrice()
