"""Evolution of shapes on a predictor: hundreds of them for the price of one evaluation's bookkeeping.

Shapes: `P` genomes, `N` results.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparsesearch.geometry import BackboneGeometry
from sparsesearch.protocols import Price
from sparsesearch.search.acquisition import Gain
from sparsesearch.search.arrays import Floats
from sparsesearch.search.genomes import Genomes, Variation, joined
from sparsesearch.search.rough_price import RoughPrice
from sparsesearch.search.steps import Features, Steps
from sparsesearch.space.definition import SearchSpace

_GENERATIONS = ((64, 48, 32), (96, 32, 0))  # mutated, crossed and random genomes of each
_SURVIVORS = 16  # genomes of a generation that are parents of the next
_NEAR = 0.05  # deviation of the logarithm of a child's budget from its parent's


class Candidates(NamedTuple):
    """Shapes with the budgets that they are meant for, the most promising first.

    Attributes:
        genomes: Wishes for shapes.
        limits_P: Budgets.
    """

    genomes: Genomes
    limits_P: Floats

    def take(self, rows: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Candidates:
        """Some of them, in this order."""
        return Candidates(self.genomes.take(rows), self.limits_P[rows])


class InnerEvolution:
    """Looks for shapes whose evaluation would add most.

    Args:
        geometry: The backbone.
        space: The space, spelled out.
        features: How schedules look to the predictor.
        low: Lower end of the range of budgets, None for a single budget.
        high: The budget, or the upper end of the range.
        price: What a schedule costs, exact multiply-adds if None.
    """

    def __init__(
        self,
        geometry: BackboneGeometry,
        space: SearchSpace,
        *,
        features: Features,
        low: float | None,
        high: float,
        price: Price | None = None,
    ) -> None:
        self._features, self._low, self._high = features, low, high
        self._rough = RoughPrice(geometry, space, price=price)
        self._variation = Variation(space)
        self._block_L = np.array([features.block(stage, block) for stage, block in space.locations], dtype=np.int64)

    def run(self, parents: Candidates, gain: Gain, *, rng: np.random.Generator) -> Candidates:
        """All that came up, by expected gain.

        Args:
            parents: Good shapes to start from, with budgets near to their costs; may be none.
            gain: What an evaluation is expected to add.
            rng: Source of randomness.
        """
        pool: list[tuple[Candidates, Floats]] = []
        for num_mutated, num_crossed, num_random in _GENERATIONS:
            if not len(parents.limits_P):
                num_mutated, num_crossed, num_random = 0, 0, num_mutated + num_crossed + num_random
            children = self._children(parents, num_mutated, num_crossed, num_random, rng)
            gains_P = self._gains(children, gain)
            pool.append((children, gains_P))
            everything = Candidates(
                joined([part.genomes for part, _ in pool]), np.concatenate([part.limits_P for part, _ in pool])
            )
            every_gain = np.concatenate([gains for _, gains in pool])
            order = np.argsort(-every_gain, kind="stable")
            parents = everything.take(order[:_SURVIVORS])
        able = order[np.isfinite(every_gain[order])]
        return everything.take(able)

    def _children(
        self, parents: Candidates, num_mutated: int, num_crossed: int, num_random: int, rng: np.random.Generator
    ) -> Candidates:
        genomes, limits = [], []
        if num_random:
            genomes.append(self._variation.draw(num_random, rng=rng))
            limits.append(self._limits(num_random, rng))
        if num_mutated + num_crossed:
            first = rng.integers(len(parents.limits_P), size=num_mutated + num_crossed)
            second = rng.integers(len(parents.limits_P), size=num_crossed)
            of_first = parents.take(first)
            genomes.append(self._variation.mutate(of_first.genomes.take(np.arange(num_mutated)), rng=rng))
            crossed = of_first.genomes.take(np.arange(num_mutated, len(first)))
            genomes.append(self._variation.cross(crossed, parents.genomes.take(second), rng=rng))
            limits.append(self._limits(len(first), rng, near=of_first.limits_P))
        return Candidates(joined(genomes), np.concatenate(limits))

    def _limits(self, num: int, rng: np.random.Generator, *, near: Floats | None = None) -> Floats:
        """Budgets anywhere in the range; half of them near to given ones."""
        if self._low is None:
            return np.full(num, self._high)
        limits = self._low + rng.random(num) * (self._high - self._low)
        if near is not None:
            beside = near * np.exp(_NEAR * rng.standard_normal(num))
            limits = np.where(rng.random(num) < 0.5, beside, limits)
        return np.clip(limits, self._low, self._high)

    def _gains(self, children: Candidates, gain: Gain) -> Floats:
        """Expected gains at rough costs; minus infinity for shapes that cannot meet their budgets."""
        genomes = children.genomes
        log_left_PS, costs_P = self._rough.scaled(genomes, children.limits_P)
        steps = Steps(self._block_L[genomes.place_PS], genomes.method_PS, log_left_PS, genomes.used_PS)
        gains_P = gain(self._features.of(steps), costs_P)
        return np.where(costs_P <= children.limits_P, gains_P, -np.inf)
