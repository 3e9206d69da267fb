"""A schedule under the budget from any shape: one that cannot meet the budget is moved towards one that can."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from sparsesearch.budget.feasible import ranges
from sparsesearch.budget.solve import WORTHWHILE, fit_to_budget
from sparsesearch.errors import BudgetError
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.sampling import Wish, settle, wishes_of
from sparsesearch.space.shape import Shape
from sparsesearch.study.protocols import Price

_PARTS = 4


def fit_nearest(
    geometry: BackboneGeometry, space: SearchSpace, *, shape: Shape, limit: float, price: Price | None = None
) -> Schedule:
    """The schedule of a shape that is maximal under a budget, or of the nearest shape that can meet it.

    A shape that cannot (it costs too much at its smallest counts, or far too little at its largest) is moved in steps
    towards the nearest extreme shape of the space that can; it keeps its weights.

    Args:
        geometry: The backbone.
        space: Its space, spelled out.
        shape: A shape of the space.
        limit: Upper limit in the unit of the price, never exceeded.
        price: What a schedule costs, exact multiply-adds if None.

    Raises:
        BudgetError: Nothing in the space meets the budget; `check_reachable` says so beforehand.
    """
    schedule = fit_to_budget(geometry, space, shape=shape, limit=limit, price=price)
    if schedule is not None:
        return schedule
    for mended in _towards_reachable(geometry, space, shape, limit, price):
        schedule = fit_to_budget(geometry, space, shape=mended, limit=limit, price=price)
        if schedule is not None:
            return schedule
    raise BudgetError(f"no schedule of this space on {geometry.name} meets {limit:g}; see check_reachable")


def _towards_reachable(
    geometry: BackboneGeometry, space: SearchSpace, shape: Shape, limit: float, price: Price | None
) -> Iterator[Shape]:
    wishes = wishes_of(shape, space)
    able = [goal for low, high, goal in _goals(geometry, space, price) if low <= limit and WORTHWHILE * limit <= high]
    if not able:
        return
    goal = min(able, key=lambda candidate: _distance(wishes, candidate))
    for part in range(_PARTS + 1):
        yield settle(_between(wishes, goal, share=part / _PARTS), space)


@lru_cache(maxsize=64)
def _goals(
    geometry: BackboneGeometry, space: SearchSpace, price: Price | None
) -> tuple[tuple[float, float, tuple[Wish, ...]], ...]:
    """Extreme shapes of a space as wishes, with the least and the greatest cost of each."""
    found = ranges(geometry, space, price=price)
    return tuple((one.low, one.high, tuple(wishes_of(one.shape, space))) for one in found)


def _distance(wishes: Sequence[Wish], goal: Sequence[Wish]) -> float:
    pairs = list(zip(wishes, goal, strict=False))
    moved = sum(abs(wish.place - wanted.place) for wish, wanted in pairs)
    changed = sum(wish.method != wanted.method for wish, wanted in pairs)
    return moved + changed + 3.0 * abs(len(wishes) - len(goal))


def _between(wishes: Sequence[Wish], goal: Sequence[Wish], *, share: float) -> list[Wish]:
    """As many places as the goal has, a share of the way there; merges behind a prune go as soon as half way."""
    found = []
    for number, wanted in enumerate(goal):
        own = wishes[min(number, len(wishes) - 1)]
        found.append(
            Wish(
                place=round((1.0 - share) * own.place + share * wanted.place),
                weight=own.weight,
                method=wanted.method,
                merge_share=own.merge_share if share < 0.5 else 0.0,
            )
        )
    return found
