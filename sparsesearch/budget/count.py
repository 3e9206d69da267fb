"""How much of a space uses a budget up, estimated by drawing schedules evenly."""

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
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.sampling import is_monotone, may_merge_behind
from sparsesearch.space.shape import LocatedMethod, Method, Shape
from sparsesearch.study.protocols import Price

_VECTORS = 64  # token counts drawn for each shape


class BudgetShare(NamedTuple):
    """An estimate.

    Attributes:
        schedules: How many schedules cost from `WORTHWHILE` of a budget to the whole of it.
        error: Its standard error.
    """

    schedules: float
    error: float


def share_of_budget(
    geometry: BackboneGeometry,
    space: SearchSpace,
    *,
    limit: float,
    price: Price | None = None,
    num_shapes: int = 2000,
    seed: int = 0,
) -> BudgetShare:
    """How many schedules of a space cost from `WORTHWHILE` of a budget to the whole of it, estimated.

    Shapes are drawn evenly among those of each number of predictors, and token counts evenly for each shape.

    Args:
        geometry: The backbone.
        space: Spelled out.
        limit: The budget in the unit of the price.
        price: What a schedule costs, exact multiply-adds if None.
        num_shapes: How many shapes are drawn.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    by_locations = {num: ways for num, ways in shapes_by_locations(space).items() if ways}
    total = variance = 0.0
    for num, ways in by_locations.items():
        draws = max(2, num_shapes // len(by_locations))
        found = [
            _vectors_within(geometry, space, _even_shape(space, num, rng), limit, price or MACS, rng)
            for _ in range(draws)
        ]
        total += ways * float(np.mean(found))
        variance += ways**2 * float(np.var(found, ddof=1)) / draws
    return BudgetShare(total, math.sqrt(variance))


def _even_shape(space: SearchSpace, num: int, rng: np.random.Generator) -> Shape:
    """A shape with `num` places, each as likely as any other: what cannot be is drawn again."""
    forms = [(m, behind) for m in space.methods for behind in ((False, True) if _may_merge(m, space) else (False,))]
    weights = np.array([2.0**num if _may_merge(m, space) else 1.0 for m in space.methods])
    while True:
        places = sorted(int(p) for p in rng.choice(len(space.locations), size=num, replace=False))
        if space.methods_per == "location":
            chosen = [forms[int(i)] for i in rng.integers(len(forms), size=num)]
        else:
            method = space.methods[int(rng.choice(len(weights), p=weights / weights.sum()))]
            merges = rng.random(num) < 0.5
            chosen = [(method, bool(merge) and _may_merge(method, space)) for merge in merges]
        starts: dict[int, int] = {}
        for place in places:
            starts.setdefault(space.locations[place][0], place)
        is_late = any(start > space.firsts.get(stage, start) for stage, start in starts.items())
        is_possible = all(
            method.is_possible_at(space.locations[place])
            and (not behind or may_merge_behind(method, space.locations[place], space))
            for place, (method, behind) in zip(places, chosen, strict=True)
        )
        if is_possible and not is_late:
            return Shape.of_methods(
                [
                    LocatedMethod(space.locations[p], method, 1.0, space.merge if behind else None, 0.5 * behind)
                    for p, (method, behind) in zip(places, chosen, strict=True)
                ],
                monotone=is_monotone(space),
            )


def _may_merge(method: Method, space: SearchSpace) -> bool:
    return any(may_merge_behind(method, location, space) for location in space.locations)


def _vectors_within(
    geometry: BackboneGeometry,
    space: SearchSpace,
    shape: Shape,
    limit: float,
    price: Price,
    rng: np.random.Generator,
) -> float:
    """How many token counts of a shape use the budget up, estimated; without bias."""
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
