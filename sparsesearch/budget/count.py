"""How many schedules of a space use up a budget, estimated by uniform sampling."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsesearch.budget.solve import WORTHWHILE
from sparsesearch.cost.separable import MACS
from sparsesearch.schedule import num_kept
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import Merge
from sparsesearch.space.counting import shapes_by_locations
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.sampling import may_merge_after
from sparsesearch.space.shape import LocatedMethod, Method, Shape
from sparsesearch.study.protocols import Price

_VECTORS = 64  # count vectors drawn per shape


class BudgetShare(NamedTuple):
    """An estimated number of schedules.

    Attributes:
        schedules: Number of schedules that cost between `WORTHWHILE` of the budget and the budget.
        error: Standard error of the estimate.
    """

    schedules: float
    error: float


def share_of_budget(
    geometry: BackboneGeometry,
    space: ResolvedSpace,
    *,
    limit: float,
    price: Price | None = None,
    num_shapes: int = 2000,
    seed: int = 0,
) -> BudgetShare:
    """Estimate how many schedules of a space cost between `WORTHWHILE` of a budget and the budget.

    Shapes are drawn uniformly for each number of predictors, and token counts uniformly for each shape.

    Args:
        geometry: The backbone.
        space: The search space.
        limit: The budget in the unit of the price.
        price: The cost function; exact multiply-adds if None.
        num_shapes: Number of shapes to draw.
        seed: Seed of the draws.
    """
    rng = np.random.default_rng(seed)
    by_locations = {num: ways for num, ways in shapes_by_locations(space).items() if ways}
    total = variance = 0.0
    for num, ways in by_locations.items():
        draws = max(2, num_shapes // len(by_locations))
        found = [
            _vectors_within(geometry, space, _uniform_shape(space, num, rng), limit, price or MACS, rng)
            for _ in range(draws)
        ]
        total += ways * float(np.mean(found))
        variance += ways**2 * float(np.var(found, ddof=1)) / draws
    return BudgetShare(total, math.sqrt(variance))


def _uniform_shape(space: ResolvedSpace, num: int, rng: np.random.Generator) -> Shape:
    """A uniformly drawn shape with `num` locations, by rejection sampling."""
    forms = [(m, merges) for m in space.methods for merges in ((False, True) if _may_merge(m, space) else (False,))]
    weights = np.array([2.0**num if _may_merge(m, space) else 1.0 for m in space.methods])
    while True:
        positions = sorted(int(p) for p in rng.choice(len(space.locations), size=num, replace=False))
        if space.methods_per == "location":
            chosen = [forms[int(i)] for i in rng.integers(len(forms), size=num)]
        else:
            method = space.methods[int(rng.choice(len(weights), p=weights / weights.sum()))]
            merge_drawn = rng.random(num) < 0.5
            chosen = [(method, bool(merge) and _may_merge(method, space)) for merge in merge_drawn]
        starts: dict[int, int] = {}
        for position in positions:
            starts.setdefault(space.locations[position][0], position)
        is_late = any(start > space.firsts.get(stage, start) for stage, start in starts.items())
        is_possible = all(
            method.is_possible_at(space.locations[position])
            and (not merges or may_merge_after(method, space.locations[position], space))
            for position, (method, merges) in zip(positions, chosen, strict=True)
        )
        if is_possible and not is_late:
            return Shape.of_methods(
                [
                    LocatedMethod(space.locations[p], method, 1.0, space.merge if merges else None, 0.5 * merges)
                    for p, (method, merges) in zip(positions, chosen, strict=True)
                ],
                monotone=space.monotone,
            )


def _may_merge(method: Method, space: ResolvedSpace) -> bool:
    return any(may_merge_after(method, location, space) for location in space.locations)


def _vectors_within(
    geometry: BackboneGeometry,
    space: ResolvedSpace,
    shape: Shape,
    limit: float,
    price: Price,
    rng: np.random.Generator,
) -> float:
    """Unbiased estimate of the number of count vectors of a shape that use up the budget."""
    base, tables = price.tables(geometry, shape.steps)
    cost_V: NDArray[np.float64] = np.full(_VECTORS, float(base))
    is_valid_V = np.ones(_VECTORS, dtype=np.bool_)
    num_vectors = 1.0
    position = 0
    while position < len(shape.steps):
        stage = shape.steps[position].stage
        here = [step for step in shape.steps if step.stage == stage]
        num_tokens = geometry.stages[stage].num_tokens
        low, high = (num_kept(num_tokens, ratio) for ratio in space.ratio_limits(stage))
        choices = min(high, num_tokens - 1) - low + 1
        if choices < (len(here) if shape.monotone else 1):
            return 0.0
        if shape.monotone:
            num_vectors *= math.comb(choices, len(here))
            drawn_VS = low + rng.random((_VECTORS, choices)).argsort(axis=1)[:, : len(here)]
            counts_VS = -np.sort(-drawn_VS, axis=1)
        else:
            num_vectors *= choices ** len(here)
            counts_VS = rng.integers(low, low + choices, size=(_VECTORS, len(here)))
        arrive_V = np.full(_VECTORS, num_tokens)
        for number, step in enumerate(here):
            if isinstance(step.reducer, Merge):
                is_valid_V &= 2 * counts_VS[:, number] >= arrive_V
            arrive_V = counts_VS[:, number]
            cost_V += tables[position + number][arrive_V]
        position += len(here)
    is_valid_V &= (cost_V <= limit) & (cost_V >= WORTHWHILE * limit)
    return num_vectors * float(is_valid_V.mean())
