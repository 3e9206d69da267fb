"""Solve a shape to a budget: scale it until one more token anywhere would exceed the budget.

The solver is deterministic. The budget limits a price: multiply-adds of one image, or milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from sparsesearch.budget.feasible import ranges
from sparsesearch.budget.lattice import CountLattice
from sparsesearch.cost.analytic import dense_macs
from sparsesearch.cost.separable import MACS
from sparsesearch.errors import BudgetError
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.shape import Shape
from sparsesearch.study.protocols import Price
from sparsesearch.study.spec import Budget

WORTHWHILE = 0.97
_BISECTIONS = 48


class RatioRule(Protocol):
    """Keep ratios of all steps of a shape as a function of one scalar."""

    def __call__(self, scale: float, /) -> Sequence[float]:
        """Keep ratios, one per step, each non-decreasing as the scale rises from 0 (exclusive) to 1."""


def fit_to_budget(
    geometry: BackboneGeometry,
    space: ResolvedSpace,
    *,
    shape: Shape,
    limit: float,
    price: Price | None = None,
    rule: RatioRule | None = None,
) -> Schedule | None:
    """The schedule of a shape that is maximal under a budget.

    One scalar is solved by bisection; then single tokens are added greedily, the most expensive that fits first, until
    one more token anywhere would exceed the budget. Tokens that cost nothing are added as well, so that the schedule is
    on the cheap side of a step of the price. Counts decrease strictly within a stage, so that no step is idle; merges
    leave at least half of the tokens that arrive; and the space's limits of keep ratios hold.

    Args:
        geometry: The backbone.
        space: Defines the limits of keep ratios; its other limits are not checked.
        shape: Locations, methods and relative drops of the steps.
        limit: Upper limit in the unit of the price, never exceeded.
        price: The cost function; exact multiply-adds if None.
        rule: Keep ratios as a function of the scalar; if None, ratio `i` is the scalar to the power of the shape's
            exponent `e_i`.

    Returns:
        The schedule; None if the shape costs too much even at its smallest counts, or too little (below `WORTHWHILE` of
        the budget) even at its largest counts, or has more steps than there are tokens.
    """
    lattice = CountLattice(geometry, space, shape=shape, price=price)
    if not lattice.exists or lattice.cost(lattice.lowest) > limit:
        return None
    if rule is None:
        exponents = shape.exponents
        fewest = min(1.0 / (2.0 * geometry.stages[step.stage].num_tokens) for step in shape.steps)
        low, high = math.log(fewest) / min(exponents), 0.0
    else:
        low, high = 0.0, 1.0
    counts = lattice.lowest
    top = lattice.counts(rule(high)) if rule is not None else lattice.highest
    if lattice.cost(top) <= limit:
        return lattice.schedule(lattice.fill(top, limit=limit)) if lattice.cost(top) >= WORTHWHILE * limit else None
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        ratios = [math.exp(middle * exponent) for exponent in exponents] if rule is None else rule(middle)
        tried = lattice.counts(ratios)
        if lattice.cost(tried) <= limit:
            counts, low = tried, middle
        else:
            top, high = tried, middle
        if sum(top) - sum(counts) <= 1:
            break
    return lattice.schedule(lattice.fill(counts, limit=limit))


def least_cost(geometry: BackboneGeometry, space: ResolvedSpace, *, shape: Shape, price: Price | None = None) -> float:
    """Cost of a shape at its smallest counts: the lowest budget that it can meet.

    Raises:
        BudgetError: The tokens of the backbone and the limits of keep ratios leave no allowed counts.
    """
    lattice = CountLattice(geometry, space, shape=shape, price=price)
    if not lattice.exists:
        raise BudgetError(
            f"{len(shape.steps)} steps do not fit the tokens of {geometry.name} within the limits of keep ratios; "
            "use fewer predictors"
        )
    return lattice.cost(lattice.lowest)


def check_budget(
    geometry: BackboneGeometry, space: ResolvedSpace, *, budget: Budget, price: Price | None = None
) -> tuple[float | None, float]:
    """Check that a budget is feasible, and return its lower end (None for a single budget) and limit.

    Args:
        geometry: The backbone.
        space: The search space.
        budget: The requested budget.
        price: As in `fit_to_budget`; required for a budget in milliseconds.

    Raises:
        BudgetError: The budget is infeasible, or the dense model is already within it.
    """
    dense = (price or MACS).of(geometry, Schedule())
    low, high = budget.limits(dense_macs(geometry))
    if high >= dense:
        raise BudgetError(
            f"the budget {budget} needs no search: dense {geometry.name} costs {_amount(dense, price)}; "
            "give a smaller budget"
        )
    for end in (high,) if low is None else (low, high):
        check_feasible(geometry, space=space, limit=end, price=price)
    return low, high


def check_feasible(
    geometry: BackboneGeometry, space: ResolvedSpace, *, limit: float, price: Price | None = None
) -> None:
    """Check that some schedule of a space uses up a budget.

    Args:
        geometry: The backbone.
        space: The search space.
        limit: The budget in the unit of the price.
        price: As in `fit_to_budget`.

    Raises:
        BudgetError: None does; the message states the feasible intervals, rounded so that their ends are feasible.
    """
    found = ranges(geometry, space, price=price)
    if any(one.low <= limit and WORTHWHILE * limit <= one.high for one in found):
        return
    dense = (price or MACS).of(geometry, Schedule())
    parts = " or ".join(
        _interval(low, high, dense, price) for low, high in feasible_intervals(geometry, space, price=price)
    )
    raise BudgetError(
        f"no schedule of this space meets {_amount(limit, price)}, {100 * limit / dense:.4g}% of dense; "
        f"the feasible range of {geometry.name} is {parts}; give a budget in that range"
    )


def feasible_intervals(
    geometry: BackboneGeometry, space: ResolvedSpace, *, price: Price | None = None
) -> list[tuple[float, float]]:
    """The budgets that a space can meet, as disjoint intervals, capped at the cost of the dense model.

    Args:
        geometry: The backbone.
        space: The search space.
        price: As in `fit_to_budget`.

    Raises:
        BudgetError: No schedule of the space fits the token grid.
    """
    dense = (price or MACS).of(geometry, Schedule())
    joined: list[tuple[float, float]] = []
    for one in sorted(ranges(geometry, space, price=price), key=lambda one: one.low):
        if one.low >= dense:
            continue
        high = min(one.high, dense)
        if joined and one.low * WORTHWHILE <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((one.low, high))
    if not joined:
        raise BudgetError(_nothing_saved(geometry, price))
    return joined


def _nothing_saved(geometry: BackboneGeometry, price: Price | None) -> str:
    if price is not None and price.unit == "ms":
        return (
            f"every schedule of this space takes longer than dense {geometry.name} on this target: small batches gain "
            "nothing, so use a larger --latency-batch-size; if the machine was busy, profile it again when it is idle"
        )
    return f"every schedule of this space costs more than dense {geometry.name}; use cheaper scorers"


def _interval(low: float, high: float, dense: float, price: Price | None) -> str:
    if price is not None and price.unit == "ms":
        amounts = f"{_digits(low, up=True)} to {_digits(high)} ms"
    else:
        high = min(high, dense - 1)
        amounts = f"{_digits(low / 1e9, up=True)} to {_digits(high / 1e9)} GFLOPs (multiply-adds)"
    return f"{amounts}, that is {_digits(100 * low / dense, up=True)}% to {_digits(100 * high / dense)}% of dense"


def _amount(value: float, price: Price | None) -> str:
    return f"{value:.4g} ms" if price is not None and price.unit == "ms" else _gflops(value)


def _digits(value: float, *, up: bool = False) -> str:
    """Four significant digits, rounded down or up."""
    scale = 10.0 ** (3 - math.floor(math.log10(value)))
    return f"{(math.ceil(value * scale) if up else math.floor(value * scale)) / scale:.10g}"


def _gflops(macs: float) -> str:
    return f"{macs / 1e9:.4g} GFLOPs (multiply-adds)"
