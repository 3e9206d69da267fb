"""Which budgets a space can meet: the cheapest and the most expensive shapes for every first location.

At the smallest (or largest) counts of a shape, every count follows from those before it, and the price splits into
terms of adjacent steps, so the best placement is a shortest path, found by dynamic programming. The results are shapes
that are priced as a whole: every cost reported here is the cost of a schedule.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any, NamedTuple

from sparsesearch.budget.lattice import CountLattice
from sparsesearch.cost.separable import MACS
from sparsesearch.errors import BudgetError
from sparsesearch.schedule import num_kept
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import Merge
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.shape import Location, Method, Shape, ShapeStep
from sparsesearch.study.protocols import Price


class Range(NamedTuple):
    """The range of costs of one shape.

    Attributes:
        low: Cost at its smallest counts.
        high: Cost at its largest counts.
        first: Index of its first location in the space.
        shape: The shape, with equal weights.
    """

    low: float
    high: float
    first: int
    shape: Shape


@lru_cache(maxsize=64)
def ranges(geometry: BackboneGeometry, space: ResolvedSpace, *, price: Price | None = None) -> tuple[Range, ...]:
    """Cost ranges of the cheapest and most expensive shapes, per number of predictors and first location.

    Args:
        geometry: The backbone.
        space: The search space.
        price: The cost function, hashable; exact multiply-adds if None.

    Raises:
        BudgetError: No schedule of the space fits the token grid.
    """
    found: dict[Shape, Range] = {}
    paths = _Paths(geometry, space, price or MACS)
    for shape in itertools.chain(paths.best(cheapest=True), paths.best(cheapest=False)):
        lattice = CountLattice(geometry, space, shape=shape, price=price)
        if shape not in found and lattice.exists:
            first = space.locations.index(shape.located_methods[0].location)
            found[shape] = Range(lattice.cost(lattice.lowest), lattice.cost(lattice.highest), first, shape)
    if not found:
        stage, _ = space.locations[0]
        raise BudgetError(
            f"no schedule fits the {geometry.stages[stage].num_tokens} tokens of {geometry.name} with at least "
            f"{space.min_predictors} predictors and min_keep_ratio {space.ratio_limits(stage)[0]:g}; lower one of them"
        )
    return tuple(found.values())


def attainable(geometry: BackboneGeometry, space: ResolvedSpace, *, price: Price | None = None) -> tuple[float, float]:
    """Cheapest and most expensive schedule of a space, in the unit of the price (multiply-adds if None).

    Raises:
        BudgetError: No schedule of the space fits the token grid.
    """
    found = ranges(geometry, space, price=price)
    return min(one.low for one in found), max(one.high for one in found)


def first_location_floors(
    geometry: BackboneGeometry, space: ResolvedSpace, *, price: Price | None = None
) -> tuple[float, ...]:
    """For each location of a space, the minimum cost of a schedule whose first step is there or later.

    A budget below the entry of a location rules that location out for the first step.

    Args:
        geometry: The backbone.
        space: The search space.
        price: As in `ranges`.

    Returns:
        Costs in the order of `space.locations`, non-decreasing. The last locations are left out if too few follow them
        for `min_predictors`.
    """
    found = ranges(geometry, space, price=price)
    floors = []
    for first in range(len(space.locations)):
        costs = [one.low for one in found if one.first >= first]
        if costs:
            floors.append(min(costs))
    return tuple(floors)


class _Node(NamedTuple):
    """A method at a location.

    Attributes:
        position: Index into the space's locations.
        step: The step, with weight 1.
        kind: Index into the space's methods.
    """

    position: int
    step: ShapeStep
    kind: int


class _Path(NamedTuple):
    """Steps in order, and their difference to the cost of the dense model.

    Attributes:
        cost: Cost difference in the unit of the price; negative if the steps save cost.
        nodes: The steps.
    """

    cost: float
    nodes: tuple[_Node, ...]


class _Paths:
    """Cheapest or most expensive shapes for every number of predictors and every first location.

    Args:
        geometry: The backbone.
        space: The search space.
        price: The cost function.
    """

    def __init__(self, geometry: BackboneGeometry, space: ResolvedSpace, price: Price) -> None:
        self._geometry, self._space, self._price = geometry, space, price
        self._falls = space.monotone
        self._dense = price.tables(geometry, ()).base
        self._limits = {stage: _token_limits(geometry, space, stage) for stage, _ in space.locations}
        self._pairs: dict[tuple[int, int, int, int], tuple[float, Any]] = {}
        self._ends: dict[tuple[int, int], tuple[float, Any]] = {}
        nodes = {
            kind: [
                _Node(position, _shape_step(location, method), kind)
                for position, location in enumerate(space.locations)
                if method.is_possible_at(location)
            ]
            for kind, method in self._different_methods()
        }
        if space.methods_per == "schedule":
            self._graphs = list(nodes.values())
        else:
            self._graphs = [
                sorted((node for found in nodes.values() for node in found), key=lambda node: node.position)
            ]

    def best(self, *, cheapest: bool) -> Iterator[Shape]:
        """The best shapes, one for every feasible first location and number of predictors.

        Args:
            cheapest: Minimise the cost at the smallest counts; otherwise maximise it at the largest counts.
        """
        sign = 1.0 if cheapest else -1.0
        for nodes in self._graphs:
            later_paths: dict[int, _Path] = {0: _Path(0.0, ())}  # by number of predictors, in later stages
            for stage in sorted({node.step.stage for node in nodes}, reverse=True):
                here = [node for node in nodes if node.step.stage == stage]
                reached = dict(later_paths)
                for num in range(1, self._space.max_predictors + 1):
                    for path in self._stage_paths(here, num, cheapest=cheapest):
                        for num_later, rest in later_paths.items():
                            total = num + num_later
                            joined = _Path(path.cost + rest.cost, path.nodes + rest.nodes)
                            if total > self._space.max_predictors:
                                continue
                            if total not in reached or sign * joined.cost < sign * reached[total].cost:
                                reached[total] = joined
                            if total >= self._space.min_predictors:
                                yield Shape(steps=tuple(node.step for node in joined.nodes), monotone=self._falls)
                later_paths = reached

    def _stage_paths(self, nodes: list[_Node], num: int, *, cheapest: bool) -> Iterator[_Path]:
        """The best path of `num` nodes of one stage for each first location.

        Paths are built from the end: the cost of the steps after a node depends on the node, its number and its count.
        """
        stage = nodes[0].step.stage
        best = min if cheapest else max
        latest = self._space.firsts.get(stage, len(self._space.locations))

        @cache
        def onward(number: int, order: int, count: int) -> _Path | None:
            node = nodes[number]
            if order == num - 1:
                return _Path(self._end(node)[1][count], (node,))
            found = None
            for following in range(number + 1, len(nodes)):
                later = nodes[following]
                if later.position == node.position:
                    continue
                left = self._count(stage, num, order + 1, count, later, cheapest)
                rest = None if left is None else onward(following, order + 1, left)
                if rest is None:
                    continue
                extra, table = self._between(node, later)
                cost = extra + table[count] + rest.cost
                if found is None or best(cost, found[0]) != found[0]:
                    found = (cost, rest)
            return None if found is None else _Path(found[0], (node, *found[1].nodes))

        firsts: dict[int, _Path] = {}
        for number, node in enumerate(nodes):
            count = self._count(stage, num, 0, self._geometry.stages[stage].num_tokens, node, cheapest)
            path = None if count is None or node.position > latest else onward(number, 0, count)
            if path is None:
                continue
            path = path._replace(cost=path.cost + self._end(node)[0])
            known = firsts.get(node.position)
            if known is None or best(path.cost, known.cost) != known.cost:
                firsts[node.position] = path
        yield from firsts.values()

    def _count(self, stage: int, num: int, order: int, before: int, node: _Node, cheapest: bool) -> int | None:
        """Tokens left by step `order` of a path of `num` steps; None if infeasible."""
        least, most = self._limits[stage]
        if self._falls:
            least, most = least + num - 1 - order, most - order
        if isinstance(node.step.reducer, Merge):
            least = max(least, (before + 1) // 2)
        if least > most:
            return None
        return least if cheapest else most

    def _end(self, node: _Node) -> tuple[float, Any]:
        """Cost that a first step adds before it, and its table as the last step."""
        key = (node.position, node.kind)
        if key not in self._ends:
            base, tables = self._price.tables(self._geometry, (node.step,))
            self._ends[key] = (base - self._dense, tables[0].tolist())
        return self._ends[key]

    def _between(self, earlier: _Node, later: _Node) -> tuple[float, Any]:
        """Count-independent cost that a step adds to the previous one, and the table of the previous one."""
        key = (earlier.position, earlier.kind, later.position, later.kind)
        if key not in self._pairs:
            base, tables = self._price.tables(self._geometry, (earlier.step, later.step))
            self._pairs[key] = (base - self._dense - self._end(earlier)[0], tables[0].tolist())
        return self._pairs[key]

    def _different_methods(self) -> list[tuple[int, Method]]:
        """One method per distinct price, with its index."""
        found: dict[Any, tuple[int, Method]] = {}
        for kind, method in enumerate(self._space.methods):
            locations = [location for location in self._space.locations if method.is_possible_at(location)]
            first, last = _shape_step(locations[0], method), _shape_step(locations[-1], method)
            # Alone and after another step: SPOT may read other layers then.
            priced = [self._price.tables(self._geometry, steps) for steps in ((last,), (first, last))[: len(locations)]]
            signature = (
                isinstance(method.reducer, Merge),
                method.phase,
                method.is_possible_at(self._space.locations[0]),
                *(base for base, _ in priced),
                *(table.tobytes() for _, tables in priced for table in tables),
            )
            found.setdefault(signature, (kind, method))
        return list(found.values())


def _token_limits(geometry: BackboneGeometry, space: ResolvedSpace, stage: int) -> tuple[int, int]:
    """The smallest and largest number of tokens that a step of a stage may leave."""
    total = geometry.stages[stage].num_tokens
    low, high = space.ratio_limits(stage)
    return num_kept(total, low), min(num_kept(total, high), total - 1)


def _shape_step(location: Location, method: Method) -> ShapeStep:
    stage, block = location
    return ShapeStep(stage=stage, block=block, phase=method.phase, reducer=method.reducer, scorer=method.scorer)
