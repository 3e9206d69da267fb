"""Multiply-adds as a sum over slots, each term depending on one token count: what scaling to a budget needs.

The terms are the closed form of `tokens` and `fast_slow`, gathered slot by slot; every sum equals `AnalyticCost` to the
integer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.cost.fast_slow import fast_macs, slow_macs
from sparsesearch.cost.selection import matching_macs, scorer_macs
from sparsesearch.cost.tokens import attention_macs, class_row_macs, class_rows, feed_forward_macs
from sparsesearch.geometry import BackboneGeometry, StageGeometry
from sparsesearch.methods import FastSlow, Scorer
from sparsesearch.protocols import SlotTables
from sparsesearch.schedule import Schedule, last_attention, num_layers, num_statistics
from sparsesearch.space.shape import Slot

if TYPE_CHECKING:
    from sparsesearch.protocols import Price

__all__ = ["MACS", "MacsPrice", "SlotTables"]

Table = NDArray[np.int64]


class MacsPrice:
    """Exact multiply-adds (protocol `Price`)."""

    @property
    def unit(self) -> Literal["macs"]:
        """Multiply-adds."""
        return "macs"

    def tables(self, geometry: BackboneGeometry, slots: Sequence[Slot]) -> SlotTables:
        """What each slot adds, as int64 arrays."""
        base = geometry.stem_macs + geometry.head_macs
        tables: list[Table] = []
        last = len(geometry.stages) - 1
        for index, stage in enumerate(geometry.stages):
            here = [slot for slot in slots if slot.stage == index]
            make = _token_tables if stage.mixer == "attention" else _grid_tables
            constant, found = make(stage, here, geometry.head_token_macs if index == last else 0)
            base += stage.entry_macs + constant
            tables += found
        return SlotTables(base, tuple(tables))

    def of(self, geometry: BackboneGeometry, schedule: Schedule) -> int:
        """Multiply-adds of one image."""
        return AnalyticCost().estimate(geometry, schedule).macs


MACS = MacsPrice()


class _Read(NamedTuple):
    """Which attention a slot looks at (protocol `tokens.Reading`)."""

    scorer: Scorer | None
    last_attention: int
    num_layers: int


def _token_tables(stage: StageGeometry, slots: Sequence[Slot], left_macs: int) -> tuple[int, list[Table]]:
    """Multiply-adds of a stage with global attention: in front of its first slot, and by slot.

    Args:
        stage: The stage.
        slots: Its slots.
        left_macs: Multiply-adds of each patch token that is left at the end.
    """
    reads: list[_Read] = []
    for slot in slots:
        last = last_attention(slot.block, slot.phase)
        before = reads[-1].last_attention if reads else None
        reads.append(_Read(slot.scorer, last, num_layers(slot.scorer, last=last, last_before=before)))
    rows_read = class_rows(reads)
    everything = np.arange(stage.num_tokens + 1)
    found = []
    mlp_from = attention_from = 0
    for number in range(len(slots) + 1):
        mlp_to = attention_to = stage.depth
        if number < len(slots):
            mlp_to, attention_to = slots[number].block, reads[number].last_attention + 1
        num = everything if number else everything[-1:]
        tokens = num + stage.num_prefix_tokens
        macs = (attention_to - attention_from) * attention_macs(stage, tokens)
        macs += (mlp_to - mlp_from) * feed_forward_macs(stage, tokens)
        num_rows = sum(attention_from <= block < attention_to for block in rows_read)
        if num_rows:
            macs += num_rows * class_row_macs(stage, tokens)
        if number < len(slots):
            slot, read = slots[number], reads[number]
            statistics = num_statistics(slot.scorer, stage, num_layers=read.num_layers)
            macs += num * scorer_macs(slot.scorer, dim=stage.dim, num_statistics=statistics)
            macs += matching_macs(slot.reducer, stage, num)
        else:
            macs += num * left_macs
        found.append(macs)
        mlp_from, attention_from = mlp_to, attention_to
    return int(found[0][0]), found[1:]


def _grid_tables(stage: StageGeometry, slots: Sequence[Slot], left_macs: int) -> tuple[int, list[Table]]:
    """The same of a stage with a fast path, whose exchange between positions and scoring are always dense."""
    everything = np.arange(stage.num_tokens + 1)
    dense_until = slots[0].block if slots else stage.depth
    base = stage.depth * stage.mixer_macs + dense_until * slow_macs(stage, stage.num_tokens)
    base += stage.num_tokens * left_macs
    ends = [*(slot.block for slot in slots[1:]), stage.depth]
    tables = []
    for slot, end in zip(slots, ends, strict=True) if slots else ():
        assert isinstance(slot.reducer, FastSlow)
        base += stage.num_tokens * scorer_macs(slot.scorer, dim=stage.dim)
        both = slow_macs(stage, everything) + fast_macs(stage, everything, slot.reducer.fast_path)
        tables.append((end - slot.block) * both)
    return base, tables


if TYPE_CHECKING:
    _: Price = MacsPrice()
