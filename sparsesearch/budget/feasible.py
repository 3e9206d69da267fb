"""Which budgets a space can meet: the cheapest and the most expensive shape for every first place, found step by step.

At the smallest (or largest) counts of a shape every count follows from those before it, and a price splits into terms
of neighbouring steps; so the best placement is a shortest path. What comes out are shapes, priced as a whole: every
cost that is named here is the cost of a schedule.
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
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.sampling import is_monotone
from sparsesearch.space.shape import Location, Method, Shape, ShapeStep
from sparsesearch.study.protocols import Price


class Range(NamedTuple):
    """What one shape can cost.

    Attributes:
        low: At its smallest counts.
        high: At its largest.
        first: Index of its first location in the space.
        shape: The shape, weights equal.
    """

    low: float
    high: float
    first: int
    shape: Shape


@lru_cache(maxsize=64)
def ranges(geometry: BackboneGeometry, space: SearchSpace, *, price: Price | None = None) -> tuple[Range, ...]:
    """What extreme shapes of a space cost: for every number of predictors the cheapest and the most expensive by first
    place.

    Args:
        geometry: The backbone.
        space: Its space, spelled out.
        price: What a schedule costs, exact multiply-adds if None; hashable.

    Raises:
        BudgetError: No schedule of the space fits the token grid.
    """
    found: dict[Shape, Range] = {}
    paths = _Paths(geometry, space, price or MACS)
    for shape in itertools.chain(paths.best(cheapest=True), paths.best(cheapest=False)):
        lattice = CountLattice(geometry, space, shape=shape, price=price)
        if shape not in found and lattice.exists:
            first = space.locations.index(shape.places[0].location)
            found[shape] = Range(lattice.cost(lattice.lowest), lattice.cost(lattice.highest), first, shape)
    if not found:
        stage, _ = space.locations[0]
        raise BudgetError(
            f"no schedule fits the {geometry.stages[stage].num_tokens} tokens of {geometry.name} with at least "
            f"{space.min_predictors} predictors and min_keep_ratio {space.ratio_limits(stage)[0]:g}; lower one of them"
        )
    return tuple(found.values())


def attainable(geometry: BackboneGeometry, space: SearchSpace, *, price: Price | None = None) -> tuple[float, float]:
    """Cheapest and most expensive schedule of a space, in the unit of the price (multiply-adds if None).

    Raises:
        BudgetError: No schedule of the space fits the token grid.
        SpaceError: The space does not fit the backbone.
    """
    found = ranges(geometry, space.for_geometry(geometry), price=price)
    return min(one.low for one in found), max(one.high for one in found)


def first_location_floors(
    geometry: BackboneGeometry, space: SearchSpace, *, price: Price | None = None
) -> tuple[float, ...]:
    """For each location of a space, the least cost of a schedule whose first step lies there or behind.

    A budget below the entry of a location rules that location out as the first; a sampler need not try it.

    Args:
        geometry: The backbone.
        space: Its space, spelled out.
        price: As in `ranges`.

    Returns:
        Costs, one entry an index into `space.locations`, not falling. Locations that leave too few behind them for the
        fewest predictors are left off.
    """
    found = ranges(geometry, space, price=price)
    floors = []
    for place in range(len(space.locations)):
        behind = [one.low for one in found if one.first >= place]
        if behind:
            floors.append(min(behind))
    return tuple(floors)


class _Node(NamedTuple):
    """A method at a place.

    Attributes:
        place: Index into the space's locations.
        step: The same as a step of weight 1.
        kind: Which method, an index into the space's methods.
    """

    place: int
    step: ShapeStep
    kind: int


class _Path(NamedTuple):
    """Steps in order and what they add to the cost of the dense model.

    Attributes:
        cost: In the unit of the price; negative where they save.
        nodes: The steps.
    """

    cost: float
    nodes: tuple[_Node, ...]


class _Paths:
    """Cheapest or most expensive shapes for every number of predictors and every first place.

    Args:
        geometry: The backbone.
        space: Spelled out.
        price: What is compared.
    """

    def __init__(self, geometry: BackboneGeometry, space: SearchSpace, price: Price) -> None:
        self._geometry, self._space, self._price = geometry, space, price
        self._falls = is_monotone(space)
        self._dense = price.tables(geometry, ()).base
        self._pairs: dict[tuple[int, int, int, int], tuple[float, Any]] = {}
        self._ends: dict[tuple[int, int], tuple[float, Any]] = {}
        nodes = {
            kind: [
                _Node(place, _shape_step(location, method), kind)
                for place, location in enumerate(space.locations)
                if method.is_possible_at(location)
            ]
            for kind, method in self._different_methods()
        }
        if space.methods_per == "schedule":
            self._graphs = list(nodes.values())
        else:
            self._graphs = [sorted((node for found in nodes.values() for node in found), key=lambda node: node.place)]

    def best(self, *, cheapest: bool) -> Iterator[Shape]:
        """The best shapes, one for every first place and number of predictors that has any.

        Args:
            cheapest: The least at the smallest counts; otherwise the greatest at the largest.
        """
        sign = 1.0 if cheapest else -1.0
        for nodes in self._graphs:
            behind: dict[int, _Path] = {0: _Path(0.0, ())}  # by number of predictors, in later stages
            for stage in sorted({node.step.stage for node in nodes}, reverse=True):
                here = [node for node in nodes if node.step.stage == stage]
                reached = dict(behind)
                for num in range(1, self._space.max_predictors + 1):
                    for path in self._stage_paths(here, num, cheapest=cheapest):
                        for num_behind, rest in behind.items():
                            total = num + num_behind
                            joined = _Path(path.cost + rest.cost, path.nodes + rest.nodes)
                            if total > self._space.max_predictors:
                                continue
                            if total not in reached or sign * joined.cost < sign * reached[total].cost:
                                reached[total] = joined
                            if total >= self._space.min_predictors:
                                yield Shape(steps=tuple(node.step for node in joined.nodes), monotone=self._falls)
                behind = reached

    def _stage_paths(self, nodes: list[_Node], num: int, *, cheapest: bool) -> Iterator[_Path]:
        """The best `num` nodes of one stage for each first place.

        It is found from the end: what the steps behind a node add depends on the node, its position and its count only.
        """
        stage = nodes[0].step.stage
        best = min if cheapest else max
        latest = self._space.firsts.get(stage, len(self._space.locations))

        @cache
        def onward(number: int, position: int, count: int) -> _Path | None:
            node = nodes[number]
            if position == num - 1:
                return _Path(self._end(node)[1][count], (node,))
            found = None
            for following in range(number + 1, len(nodes)):
                later = nodes[following]
                if later.place == node.place:
                    continue
                left = self._count(stage, num, position + 1, count, later, cheapest)
                rest = None if left is None else onward(following, position + 1, left)
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
            path = None if count is None or node.place > latest else onward(number, 0, count)
            if path is None:
                continue
            path = path._replace(cost=path.cost + self._end(node)[0])
            held = firsts.get(node.place)
            if held is None or best(path.cost, held.cost) != held.cost:
                firsts[node.place] = path
        yield from firsts.values()

    def _count(self, stage: int, num: int, position: int, before: int, node: _Node, cheapest: bool) -> int | None:
        """Tokens that the step at a position of a path leaves; None where it cannot."""
        total = self._geometry.stages[stage].num_tokens
        low, high = self._space.ratio_limits(stage)
        behind = num - 1 - position if self._falls else 0
        least = num_kept(total, low) + behind
        most = min(num_kept(total, high), total - 1) - (position if self._falls else 0)
        if isinstance(node.step.reducer, Merge):
            least = max(least, (before + 1) // 2)
        if least > most:
            return None
        return least if cheapest else most

    def _end(self, node: _Node) -> tuple[float, Any]:
        """What a step that stands first adds in front of it, and its table if it stands last."""
        key = (node.place, node.kind)
        if key not in self._ends:
            base, tables = self._price.tables(self._geometry, (node.step,))
            self._ends[key] = (base - self._dense, tables[0].tolist())
        return self._ends[key]

    def _between(self, earlier: _Node, later: _Node) -> tuple[float, Any]:
        """What a step adds to the one before it whatever the counts, and the table of that one."""
        key = (earlier.place, earlier.kind, later.place, later.kind)
        if key not in self._pairs:
            base, tables = self._price.tables(self._geometry, (earlier.step, later.step))
            self._pairs[key] = (base - self._dense - self._end(earlier)[0], tables[0].tolist())
        return self._pairs[key]

    def _different_methods(self) -> list[tuple[int, Method]]:
        """One method of each price, with its index; which tokens are dropped into which does not matter here."""
        found: dict[Any, tuple[int, Method]] = {}
        for kind, method in enumerate(self._space.methods):
            places = [place for place in self._space.locations if method.is_possible_at(place)]
            pair = [_shape_step(places[i], method) for i in ({0, len(places) - 1})]
            base, tables = self._price.tables(self._geometry, sorted(pair, key=lambda step: step.location))
            signature = (
                isinstance(method.reducer, Merge),
                method.phase,
                method.is_possible_at(self._space.locations[0]),
                base,
                *(table.tobytes() for table in tables),
            )
            found.setdefault(signature, (kind, method))
        return list(found.values())


def _shape_step(location: Location, method: Method) -> ShapeStep:
    stage, block = location
    return ShapeStep(stage=stage, block=block, phase=method.phase, reducer=method.reducer, scorer=method.scorer)
