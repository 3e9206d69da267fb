"""The lattice of token counts that a shape may have, and their costs.

Counts are patch tokens without prefix tokens, one per step: tokens left, or positions on the slow path. Within a stage
they decrease strictly, so that no step is idle (`fast_slow` counts may rise if the space allows it); a merge leaves at
least half of the tokens that arrive. The elementwise minimum and maximum of two allowed vectors are allowed too, so
there is a smallest and a largest vector, and cost is non-decreasing in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sparsesearch.cost.separable import MACS
from sparsesearch.schedule import Schedule, num_kept
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import Merge
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.shape import Shape
from sparsesearch.study.protocols import Price


class CountLattice:
    """The lattice of count vectors of one shape on one backbone.

    Args:
        geometry: The backbone.
        space: Defines the limits of keep ratios.
        shape: Locations and methods of the steps.
        price: The cost function; exact multiply-adds if None.

    Attributes:
        lowest: The smallest counts.
        highest: The largest counts.
        exists: Whether there is any allowed vector, given the number of tokens and the limits of keep ratios.
    """

    def __init__(
        self, geometry: BackboneGeometry, space: ResolvedSpace, *, shape: Shape, price: Price | None = None
    ) -> None:
        self._shape, self._geometry = shape, geometry
        steps = shape.steps
        self._base, tables = (price or MACS).tables(geometry, steps)
        self._tables: list[Callable[[int], Any]] = [table.item for table in tables]
        num = len(steps)
        self._totals = [geometry.stages[step.stage].num_tokens for step in steps]
        self._falls = shape.monotone
        self._halves = [isinstance(step.reducer, Merge) for step in steps]
        self._is_first = [not i or steps[i - 1].stage != steps[i].stage for i in range(num)]
        self.lowest, self.highest = [0] * num, [0] * num
        for i, step in enumerate(steps):
            num_later = sum(later.stage == step.stage for later in steps[i + 1 :]) if self._falls else 0
            before = 0 if self._is_first[i] or not self._falls else self.highest[i - 1]
            low, high = space.ratio_limits(step.stage)
            total = self._totals[i]
            self.lowest[i] = max(num_kept(total, low) + num_later, self._min_left(i, self.lowest))
            self.highest[i] = min(num_kept(total, high), total - 1, before - 1 if before else total)
        self.exists = all(1 <= low <= high for low, high in zip(self.lowest, self.highest, strict=True))

    def _min_left(self, step: int, counts: Sequence[int]) -> int:
        """Minimum tokens left by a step given the counts before it: half of the tokens that arrive at a merge."""
        if not self._halves[step]:
            return 0
        arrive = self._totals[step] if self._is_first[step] else counts[step - 1]
        return (arrive + 1) // 2

    def cost(self, counts: Sequence[int]) -> float:
        """Cost of the whole model."""
        added: float = sum([table(count) for table, count in zip(self._tables, counts, strict=True)])
        return self._base + added

    def counts(self, keep_ratios: Sequence[float]) -> list[int]:
        """The allowed counts closest to keep ratios; non-decreasing in every ratio."""
        found: list[int] = []
        for step, ratio in enumerate(keep_ratios):
            count = min(num_kept(self._totals[step], ratio), self.highest[step])
            if self._falls and not self._is_first[step]:
                count = min(count, found[-1] - 1)
            found.append(max(count, self.lowest[step], self._min_left(step, found)))
        return found

    def fill(self, counts: Sequence[int], *, limit: float) -> list[int]:
        """Greedily add single tokens, the most expensive that fits first, until none fits; also add free tokens."""
        counts = list(counts)
        left = limit - self.cost(counts)
        num = len(counts)
        increments = [self._increment(step, counts) for step in range(num)]
        while True:
            best, price = -1, -1.0
            for step, increment in enumerate(increments):
                if increment is not None and price < increment <= left:
                    best, price = step, increment
            if best < 0:
                return counts
            counts[best] += 1
            left -= price
            for step in (best - 1, best, best + 1):
                if 0 <= step < num:
                    increments[step] = self._increment(step, counts)

    def _increment(self, step: int, counts: Sequence[int]) -> float | None:
        """Cost of one more token at a step; None if it is not allowed."""
        count = counts[step]
        if count >= self.highest[step]:
            return None
        if self._falls and not self._is_first[step] and count + 1 >= counts[step - 1]:
            return None
        after = step + 1
        halved = after < len(counts) and self._halves[after] and not self._is_first[after]
        if halved and counts[after] < (count + 2) // 2:
            return None
        table = self._tables[step]
        found: float = table(count + 1) - table(count)
        return found

    def schedule(self, counts: Sequence[int]) -> Schedule:
        """The schedule with these counts, in canonical form."""
        return self._shape.schedule([count / total for count, total in zip(counts, self._totals, strict=True)])
