"""The shape of a schedule without its scale, and how to draw and change shapes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sparsesearch.methods import DynamicVitScorer, Scorer
from sparsesearch.space.definition import SearchSpace

MIN_WEIGHT = 0.05


class Shape(BaseModel):
    """Where tokens are dropped and how the drops compare; one scalar rho then fixes all keep ratios.

    Step `i` keeps `rho ** e_i` of the initial tokens, where `e_i` is the sum of the weights up to `i`: a weight is the
    share of the total drop, on the logarithmic scale, that its step makes. Weights `(1, 1, 1)` are the hand family
    rho, rho^2, rho^3.

    Attributes:
        blocks: 0-based blocks with a step in front of them, rising.
        weights: One positive number a block; only their ratios matter.
        scorer: What ranks the tokens, the same at every step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    blocks: tuple[int, ...] = Field(min_length=1)
    weights: tuple[float, ...] = Field(min_length=1)
    scorer: Scorer = DynamicVitScorer()

    @model_validator(mode="after")
    def _consistent(self) -> Shape:
        if len(self.blocks) != len(self.weights):
            raise ValueError(f"{len(self.blocks)} blocks but {len(self.weights)} weights; give one weight a block")
        if any(later <= earlier for earlier, later in zip(self.blocks, self.blocks[1:], strict=False)):
            raise ValueError(f"blocks {list(self.blocks)} must rise")
        if self.blocks[0] < 0 or not all(0.0 < weight < float("inf") for weight in self.weights):
            raise ValueError("blocks must not be negative and weights must be positive and finite")
        return self

    @property
    def exponents(self) -> tuple[float, ...]:
        """Cumulative weights, scaled so that the last is 1."""
        total = list(accumulate(self.weights))
        return tuple(value / total[-1] for value in total)

    def canonical(self) -> Shape:
        """The same shape with weights scaled to a largest of 1, and none below `MIN_WEIGHT`."""
        return self.model_copy(update={"weights": canonical_weights(self.weights)})


def canonical_weights(weights: Sequence[float]) -> tuple[float, ...]:
    """Weights scaled to a largest of 1 and raised to at least `MIN_WEIGHT`; a single weight becomes 1."""
    largest = max(weights)
    return tuple(min(1.0, max(MIN_WEIGHT, weight / largest)) for weight in weights)


def place(positions: Sequence[int], *, num_places: int, latest_first: int | None = None) -> tuple[int, ...]:
    """Turn any list of places into distinct rising ones, moving each as little as order and bounds allow.

    Args:
        positions: Wished places, in any order, repeats allowed; at most `num_places` of them.
        num_places: Places are 0 to `num_places - 1`.
        latest_first: The first may not lie behind this place; None for no such limit.
    """
    assert len(positions) <= num_places
    wished = sorted(min(max(place, 0), num_places - 1) for place in positions)
    if latest_first is not None:
        wished[0] = min(wished[0], max(latest_first, 0))
    placed: list[int] = []
    for slot, wish in enumerate(wished):
        lowest = placed[-1] + 1 if placed else 0
        highest = num_places - (len(wished) - slot)
        placed.append(min(max(wish, lowest), highest))
    return tuple(placed)


def draw_shape(space: SearchSpace, *, rng: np.random.Generator, latest_first: int | None = None) -> Shape:
    """A random shape of the space.

    Args:
        space: A space for a geometry (its blocks spelled out).
        rng: Source of randomness.
        latest_first: Index into `space.blocks` behind which the first step may not lie.
    """
    num = int(rng.integers(space.min_predictors, space.max_predictors + 1))
    positions = [int(p) for p in rng.choice(len(space.blocks), size=num, replace=False)]
    places = place(positions, num_places=len(space.blocks), latest_first=latest_first)
    weights = rng.uniform(MIN_WEIGHT, 1.0, size=num)
    return Shape(
        blocks=tuple(space.blocks[p] for p in places),
        weights=canonical_weights([float(w) for w in weights]),
        scorer=space.scorers[int(rng.integers(len(space.scorers)))],
    )


def mutate_shape(
    shape: Shape, space: SearchSpace, *, rng: np.random.Generator, latest_first: int | None = None
) -> Shape:
    """A neighbour of a shape, inside the space: steps move by a block or two, weights change, one may come or go.

    Args:
        shape: A shape whose blocks are all in the space.
        space: A space for a geometry (its blocks spelled out).
        rng: Source of randomness.
        latest_first: Index into `space.blocks` behind which the first step may not lie.
    """
    positions = [space.blocks.index(block) for block in shape.blocks]
    weights = list(shape.weights)
    kind = int(rng.integers(4))
    if kind == 0 and len(positions) < space.max_predictors:
        free = [p for p in range(len(space.blocks)) if p not in positions]
        positions.append(free[int(rng.integers(len(free)))])
        order = sorted(range(len(positions)), key=positions.__getitem__)
        weights.append(float(np.median(weights)))
        positions, weights = [positions[i] for i in order], [weights[i] for i in order]
    elif kind == 1 and len(positions) > space.min_predictors:
        gone = int(rng.integers(len(positions)))
        del positions[gone], weights[gone]
    elif kind == 2:
        moved = int(rng.integers(len(positions)))
        positions[moved] += int(rng.choice([-2, -1, 1, 2]))
    weights = [weight * float(np.exp(rng.normal(0.0, 0.5))) for weight in weights]
    places = place(positions, num_places=len(space.blocks), latest_first=latest_first)
    scorer = shape.scorer
    if len(space.scorers) > 1 and rng.random() < 0.1:
        scorer = space.scorers[int(rng.integers(len(space.scorers)))]
    return Shape(blocks=tuple(space.blocks[p] for p in places), weights=canonical_weights(weights), scorer=scorer)
