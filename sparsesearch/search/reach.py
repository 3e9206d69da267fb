"""Which budgets a space can meet: the cheapest and the dearest shape for every first place, found slot by slot.

At the smallest (or largest) counts of a shape every count follows from those before it, and a price splits into terms
of neighbouring slots; so the best placement is a shortest path. What comes out are shapes, priced as a whole: every
cost that is named here is the cost of a schedule.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from sparsesearch.cost.separable import MACS
from sparsesearch.errors import BudgetError
from sparsesearch.geometry import BackboneGeometry
from sparsesearch.methods import Merge
from sparsesearch.protocols import Price
from sparsesearch.schedule import num_kept
from sparsesearch.search.ladder import Ladder
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.sampling import is_monotone
from sparsesearch.space.shape import Location, Method, Shape, Slot


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
    """What extreme shapes of a space cost: for every number of predictors the cheapest and the dearest by first place.

    Args:
        geometry: The backbone.
        space: Its space, spelled out.
        price: What a schedule costs, exact multiply-adds if None; hashable.

    Raises:
        BudgetError: No schedule of the space fits the token grid.
    """
    found: dict[Shape, Range] = {}
    paths = _Paths(geometry, space, price or MACS)
    for first in range(len(space.locations)):
        for cheapest in (True, False):
            for shape in paths.best(first, cheapest=cheapest):
                if shape in found:
                    continue
                ladder = Ladder(geometry, space, shape=shape, price=price)
                if ladder.exists:
                    start = space.locations.index(shape.places[0].location)
                    found[shape] = Range(ladder.cost(ladder.lowest), ladder.cost(ladder.highest), start, shape)
    if not found:
        stage, _ = space.locations[0]
        raise BudgetError(
            f"no schedule fits the {geometry.stages[stage].num_tokens} tokens of {geometry.name} with at least "
            f"{space.min_predictors} predictors and min_keep_ratio {space.ratio_limits(stage)[0]:g}; lower one of them"
        )
    return tuple(found.values())


def attainable(geometry: BackboneGeometry, space: SearchSpace, *, price: Price | None = None) -> tuple[float, float]:
    """Cheapest and dearest schedule of a space, in the unit of the price (multiply-adds if None).

    Raises:
        BudgetError: No schedule of the space fits the token grid.
        SpaceError: The space does not fit the backbone.
    """
    found = ranges(geometry, space.for_geometry(geometry), price=price)
    return min(one.low for one in found), max(one.high for one in found)


def first_place_floors(
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
        slot: The same as a slot of weight 1.
        kind: Which method, an index into the space's methods.
    """

    place: int
    slot: Slot
    kind: int


class _Paths:
    """Cheapest and dearest shapes, for every number of predictors."""

    def __init__(self, geometry: BackboneGeometry, space: SearchSpace, price: Price) -> None:
        self._geometry, self._space, self._price = geometry, space, price
        self._falls = is_monotone(space)
        self._dense = price.tables(geometry, ()).base
        self._pairs: dict[tuple[int, int, int, int], Any] = {}
        self._ends: dict[tuple[int, int], tuple[float, Any]] = {}
        self._kinds = self._different_methods()
        self._nodes = {
            kind: [
                _Node(place, _slot(location, method), kind)
                for place, location in enumerate(space.locations)
                if method.is_possible_at(location)
            ]
            for kind, method in self._kinds
        }

    def best(self, first: int, *, cheapest: bool) -> Iterator[Shape]:
        """The best shapes whose first step lies at a place or behind, one for every number of predictors.

        Args:
            first: Index into the space's locations.
            cheapest: The least at the smallest counts; otherwise the greatest at the largest.
        """
        if self._space.methods_per == "schedule":
            for kind, _ in self._kinds:
                yield from self._best_of(self._nodes[kind], first, cheapest)
        else:
            nodes = sorted((node for found in self._nodes.values() for node in found), key=lambda node: node.place)
            yield from self._best_of(nodes, first, cheapest)

    def _best_of(self, nodes: list[_Node], first: int, cheapest: bool) -> Iterator[Shape]:
        sign = 1.0 if cheapest else -1.0
        most = self._space.max_predictors
        total: list[tuple[float, tuple[_Node, ...]] | None] = [(0.0, ())] + [None] * most
        for stage in sorted({node.slot.stage for node in nodes}):
            here = [node for node in nodes if node.slot.stage == stage and node.place >= first]
            latest = self._space.firsts.get(stage, len(self._space.locations))
            alone: list[tuple[float, tuple[_Node, ...]] | None] = [(0.0, ())]
            alone += [self._path(here, num, latest, cheapest, sign) for num in range(1, most + 1)]
            joined: list[tuple[float, tuple[_Node, ...]] | None] = [None] * (most + 1)
            for num_before, before in enumerate(total):
                for num_here, path in enumerate(alone[: most + 1 - num_before]):
                    if before is None or path is None:
                        continue
                    cost = before[0] + path[0]
                    held = joined[num_before + num_here]
                    if held is None or sign * cost < sign * held[0]:
                        joined[num_before + num_here] = (cost, before[1] + path[1])
            total = joined
        for found in total[self._space.min_predictors :]:
            if found is not None:
                yield Shape(slots=tuple(node.slot for node in found[1]), monotone=self._falls)

    def _path(
        self, nodes: list[_Node], num: int, latest: int, cheapest: bool, sign: float
    ) -> tuple[float, tuple[_Node, ...]] | None:
        """The best `num` nodes of one stage and what they add to the dense cost; None if there are none."""
        if not nodes:
            return None
        stage = nodes[0].slot.stage
        reached: dict[tuple[int, int, int], tuple[float, tuple[_Node, ...]]] = {}
        for node in nodes:
            count = self._count(stage, num, 0, self._geometry.stages[stage].num_tokens, node, cheapest)
            if count is not None and node.place <= latest:
                reached[node.place, node.kind, count] = (self._end(node)[0], (node,))
        for position in range(1, num):
            further: dict[tuple[int, int, int], tuple[float, tuple[_Node, ...]]] = {}
            for (place, _, before), (cost, path) in reached.items():
                for node in nodes:
                    if node.place <= place:
                        continue
                    count = self._count(stage, num, position, before, node, cheapest)
                    if count is None:
                        continue
                    reach = cost + self._between(path[-1], node)[before]
                    state = (node.place, node.kind, count)
                    held = further.get(state)
                    if held is None or sign * reach < sign * held[0]:
                        further[state] = (reach, (*path, node))
            reached = further
        ends = [(cost + self._end(path[-1])[1][state[2]], path) for state, (cost, path) in reached.items()]
        return min(ends, key=lambda end: sign * end[0], default=None)

    def _count(self, stage: int, num: int, position: int, before: int, node: _Node, cheapest: bool) -> int | None:
        """Tokens that the slot at a position of a path leaves; None where it cannot."""
        total = self._geometry.stages[stage].num_tokens
        low, high = self._space.ratio_limits(stage)
        behind = num - 1 - position if self._falls else 0
        least = num_kept(total, low) + behind
        most = min(num_kept(total, high), total - 1) - (position if self._falls else 0)
        if isinstance(node.slot.reducer, Merge):
            least = max(least, (before + 1) // 2)
        if least > most:
            return None
        return least if cheapest else most

    def _end(self, node: _Node) -> tuple[float, Any]:
        """What a slot that stands first adds in front of it, and its table if it stands last."""
        key = (node.place, node.kind)
        if key not in self._ends:
            base, tables = self._price.tables(self._geometry, (node.slot,))
            self._ends[key] = (base - self._dense, tables[0].tolist())
        return self._ends[key]

    def _between(self, earlier: _Node, later: _Node) -> Any:
        """The table of a slot that another one follows."""
        key = (earlier.place, earlier.kind, later.place, later.kind)
        if key not in self._pairs:
            tables = self._price.tables(self._geometry, (earlier.slot, later.slot)).tables
            self._pairs[key] = tables[0].tolist()
        return self._pairs[key]

    def _different_methods(self) -> list[tuple[int, Method]]:
        """One method of each price, with its index; which tokens are dropped into which does not matter here."""
        found: dict[Any, tuple[int, Method]] = {}
        for kind, method in enumerate(self._space.methods):
            places = [place for place in self._space.locations if method.is_possible_at(place)]
            pair = [_slot(places[i], method) for i in ({0, len(places) - 1})]
            base, tables = self._price.tables(self._geometry, sorted(pair, key=lambda slot: slot.location))
            signature = (
                isinstance(method.reducer, Merge),
                method.phase,
                method.is_possible_at(self._space.locations[0]),
                base,
                *(table.tobytes() for table in tables),
            )
            found.setdefault(signature, (kind, method))
        return list(found.values())


def _slot(location: Location, method: Method) -> Slot:
    stage, block = location
    return Slot(stage=stage, block=block, phase=method.phase, reducer=method.reducer, scorer=method.scorer)
