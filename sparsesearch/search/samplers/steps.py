"""Schedules as arrays, one row each: the input of the accuracy predictor.

Shapes: `P` schedules, `S` steps at most, `B` blocks over all stages, `M` methods, `F` features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import FastSlow
from sparsesearch.search.samplers.arrays import Bools, Floats, Ints
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.shape import Method

_OF_METHODS = 0.3  # scale of the drops per method, relative to the features of blocks


class Steps(NamedTuple):
    """Schedules step by step, in order of execution.

    Attributes:
        block_PS: Index of the block over all stages.
        method_PS: Index into the methods of `Features`.
        log_left_PS: Logarithm of the fraction of the stage's initial tokens left, or on the slow path.
        used_PS: Mask of existing steps; they come first.
    """

    block_PS: Ints
    method_PS: Ints
    log_left_PS: Floats
    used_PS: Bools


class Columns(NamedTuple):
    """Kinds of the features, so that a predictor can learn the weight of each kind.

    Attributes:
        depth_F: Relative depth of the feature's block, from 0 to 1; 0 for a feature of no block.
        is_drop_F: Whether it is the drop before a block.
    """

    depth_F: Floats
    is_drop_F: Bools

    def weights(self, *, decay: float, drops: float) -> Floats:
        """Weights of the features.

        Args:
            decay: Logarithm of the weight of the first blocks over that of the last.
            drops: Weight of drops, relative to the other features of blocks.
        """
        weights_F: Floats = np.exp(-decay * self.depth_F) * np.where(self.is_drop_F, drops, 1.0)
        return weights_F


class Features:
    """Features that the accuracy of a schedule depends on smoothly.

    For each block: the logarithm of the fraction of tokens in its attention and its feed-forward network, and the drop
    before it on that scale. For each method: its total drop, weighted by depth as early and late drops, because scores
    are less informative before the first blocks. Schedules that treat tokens alike have similar features, so what is
    learned is shared across budgets and methods.

    Args:
        geometry: The backbone.
        space: The search space. Its methods have separate features, all others share one; with a single method, only
            the others have a feature.

    Attributes:
        columns: The kind of each feature.
    """

    def __init__(self, geometry: BackboneGeometry, space: ResolvedSpace) -> None:
        depths = [stage.depth for stage in geometry.stages]
        self._starts = np.concatenate([[0], np.cumsum(depths)])
        self.num_blocks = int(self._starts[-1])
        self.stage_of_block = np.repeat(np.arange(len(depths)), depths)
        self._methods = {method: i for i, method in enumerate(dict.fromkeys([*space.methods, *space.merges]))}
        known = list(self._methods)
        self.num_methods = len(known) + 1
        self._keeps_grid = np.array([isinstance(method.reducer, FastSlow) for method in known] + [False])
        self._in_ffn = np.array([method.phase == "before_ffn" for method in known] + [False])
        self._told_apart = slice(0 if len(known) > 1 else 1, None)
        self._num_tokens = [stage.num_tokens for stage in geometry.stages]
        self._geometry = geometry
        depth_B = np.arange(self.num_blocks) / self.num_blocks
        of_methods = np.zeros(2 * len(range(self.num_methods)[self._told_apart]))
        self.columns = Columns(
            depth_F=np.concatenate([depth_B, depth_B, depth_B, of_methods]),
            is_drop_F=np.repeat([False, True, False], [2 * self.num_blocks, self.num_blocks, len(of_methods)]),
        )

    def block(self, stage: int, block: int) -> int:
        """Index of a block over all stages."""
        return int(self._starts[stage]) + block

    def steps(self, schedules: Sequence[Schedule]) -> Steps:
        """Schedules as arrays."""
        rows = [schedule.resolve(self._geometry) for schedule in schedules]
        width = max((len(row) for row in rows), default=0) or 1
        block_PS, method_PS = np.zeros((2, len(rows), width), dtype=np.int64)
        log_left_PS, used_PS = np.zeros((len(rows), width)), np.zeros((len(rows), width), dtype=np.bool_)
        for p, row in enumerate(rows):
            for s, step in enumerate(row):
                method = Method(reducer=step.reducer, scorer=step.scorer, phase=step.phase)
                block_PS[p, s] = self.block(step.stage, step.block)
                method_PS[p, s] = self._methods.get(method, self.num_methods - 1)
                log_left_PS[p, s] = math.log(step.num_tokens / self._num_tokens[step.stage])
                used_PS[p, s] = True
        return Steps(block_PS, method_PS, log_left_PS, used_PS)

    def of(self, steps: Steps) -> Floats:
        """Features, `P x F`."""
        num, width = steps.block_PS.shape
        everyone, blocks_B = np.arange(num), np.arange(self.num_blocks)
        attention_PB, ffn_PB, drop_PB = np.zeros((3, num, self.num_blocks))
        early_PM, late_PM = np.zeros((2, num, self.num_methods))
        before_P, stage_P = np.zeros(num), np.full(num, -1)
        for step in range(width):
            used_P, block_P = steps.used_PS[:, step], steps.block_PS[:, step]
            method_P, left_P = steps.method_PS[:, step], steps.log_left_PS[:, step]
            here_P = self.stage_of_block[block_P]
            before_P = np.where(here_P == stage_P, before_P, 0.0)
            within_PB = (self.stage_of_block == here_P[:, None]) & used_P[:, None]
            ffn_PB = np.where(within_PB & (blocks_B >= block_P[:, None]), left_P[:, None], ffn_PB)
            first_P = block_P + self._in_ffn[method_P]
            attended_PB = within_PB & (blocks_B >= first_P[:, None]) & ~self._keeps_grid[method_P][:, None]
            attention_PB = np.where(attended_PB, left_P[:, None], attention_PB)
            dropped_P = np.where(used_P, before_P - left_P, 0.0)
            drop_PB[everyone, block_P] += dropped_P
            early_PM[everyone, method_P] += (1.0 - block_P / self.num_blocks) * dropped_P
            late_PM[everyone, method_P] += block_P / self.num_blocks * dropped_P
            before_P, stage_P = np.where(used_P, left_P, before_P), np.where(used_P, here_P, stage_P)
        scale = 1.0 / math.sqrt(2.0 * self.num_blocks)
        methods_PM = _OF_METHODS * np.concatenate([early_PM[:, self._told_apart], late_PM[:, self._told_apart]], axis=1)
        return np.concatenate([scale * attention_PB, scale * ffn_PB, drop_PB, methods_PM], axis=1)
