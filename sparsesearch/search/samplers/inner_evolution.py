"""Evolution of hundreds of shapes on the predictor, without evaluations.

Shapes: `P` genomes, `N` results.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.search.samplers.acquisition import Gain
from sparsesearch.search.samplers.arrays import Floats
from sparsesearch.search.samplers.genomes import Genomes, Variation, joined
from sparsesearch.search.samplers.rough_price import RoughPrice
from sparsesearch.search.samplers.steps import Features, Steps
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.study.protocols import Price

_GENERATIONS = ((64, 48, 32), (96, 32, 0))  # mutated, crossed and random genomes of each generation
_SURVIVORS = 16  # genomes of a generation that are parents of the next
_NEAR = 0.05  # standard deviation of the log ratio of the budgets of child and parent


class Candidates(NamedTuple):
    """Shapes with their budgets, most promising first.

    Attributes:
        genomes: Genes of the shapes.
        limits_P: Budgets.
    """

    genomes: Genomes
    limits_P: Floats

    def take(self, rows: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Candidates:
        """The given rows, in this order."""
        return Candidates(self.genomes.take(rows), self.limits_P[rows])


class InnerEvolution:
    """Searches for the shapes with the largest expected gain.

    Args:
        geometry: The backbone.
        space: The search space.
        features: Features of schedules for the predictor.
        price: The cost function; exact multiply-adds if None.
    """

    def __init__(
        self, geometry: BackboneGeometry, space: ResolvedSpace, *, features: Features, price: Price | None = None
    ) -> None:
        self._features = features
        self._rough = RoughPrice(geometry, space, price=price)
        self._variation = Variation(space)
        self._block_L = np.array([features.block(stage, block) for stage, block in space.locations], dtype=np.int64)

    def run(self, parents: Candidates, gain: Gain, *, low: float, high: float, rng: np.random.Generator) -> Candidates:
        """All candidates of all generations, by expected gain.

        Args:
            parents: Good shapes to start from, with budgets close to their costs; may be empty.
            gain: The expected gain of an evaluation.
            low: Lower end of the range of budgets; the upper one for a single budget.
            high: The budget, or the upper end of the range.
            rng: Source of randomness.
        """
        pool: list[tuple[Candidates, Floats]] = []
        for num_mutated, num_crossed, num_random in _GENERATIONS:
            if not len(parents.limits_P):
                num_mutated, num_crossed, num_random = 0, 0, num_mutated + num_crossed + num_random
            children = self._children(parents, num_mutated, num_crossed, num_random, low=low, high=high, rng=rng)
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
        self,
        parents: Candidates,
        num_mutated: int,
        num_crossed: int,
        num_random: int,
        *,
        low: float,
        high: float,
        rng: np.random.Generator,
    ) -> Candidates:
        genomes, limits = [], []
        if num_random:
            genomes.append(self._variation.draw(num_random, rng=rng))
            limits.append(_limits(num_random, low, high, rng))
        if num_mutated + num_crossed:
            first = rng.integers(len(parents.limits_P), size=num_mutated + num_crossed)
            second = rng.integers(len(parents.limits_P), size=num_crossed)
            of_first = parents.take(first)
            genomes.append(self._variation.mutate(of_first.genomes.take(np.arange(num_mutated)), rng=rng))
            crossed = of_first.genomes.take(np.arange(num_mutated, len(first)))
            genomes.append(self._variation.cross(crossed, parents.genomes.take(second), rng=rng))
            limits.append(_limits(len(first), low, high, rng, near=of_first.limits_P))
        return Candidates(joined(genomes), np.concatenate(limits))

    def _gains(self, children: Candidates, gain: Gain) -> Floats:
        """Expected gains at approximate costs; minus infinity for shapes that cannot meet their budgets."""
        genomes = children.genomes
        log_left_PS, costs_P = self._rough.scaled(genomes, children.limits_P)
        steps = Steps(self._block_L[genomes.location_PS], genomes.method_PS, log_left_PS, genomes.used_PS)
        gains_P = gain(self._features.of(steps), costs_P)
        return np.where(costs_P <= children.limits_P, gains_P, -np.inf)


def _limits(num: int, low: float, high: float, rng: np.random.Generator, *, near: Floats | None = None) -> Floats:
    """Random budgets in the range; half of them close to `near`, if given."""
    limits = low + rng.random(num) * (high - low)
    if near is not None:
        nearby = near * np.exp(_NEAR * rng.standard_normal(num))
        limits = np.where(rng.random(num) < 0.5, nearby, limits)
    return np.clip(limits, low, high)
