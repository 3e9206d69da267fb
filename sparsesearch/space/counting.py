"""The exact number of schedules in a space."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

from sparsesearch.schedule import num_kept
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import Merge
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.sampling import may_merge_after
from sparsesearch.space.shape import Location, Method

Pattern = tuple[bool, ...]


class Size(NamedTuple):
    """The size of a space.

    Attributes:
        placements: Number of sets of locations.
        shapes: Number of placements with a choice of methods, including merges after prunes.
        schedules: Number of shapes with token counts.
    """

    placements: int
    shapes: int
    schedules: int


def size(space: ResolvedSpace, geometry: BackboneGeometry) -> Size:
    """The size of a space on a backbone.

    Args:
        space: The search space.
        geometry: The backbone.
    """

    def vectors(stage: int, pattern: Pattern) -> int:
        return num_vectors(space, geometry, stage=stage, merges=pattern)

    return Size(
        placements=sum(_placements(space).values()),
        shapes=sum(shapes_by_locations(space).values()),
        schedules=sum(sum(_sum_over(space, methods, vectors).values()) for methods in _alternatives(space)),
    )


def shapes_by_locations(space: ResolvedSpace) -> dict[int, int]:
    """Number of shapes for each number of predictors."""
    total: dict[int, int] = {}
    for methods in _alternatives(space):
        for num, ways in _sum_over(space, methods, lambda stage, pattern: 1).items():
            total[num] = total.get(num, 0) + ways
    return total


def num_vectors(space: ResolvedSpace, geometry: BackboneGeometry, *, stage: int, merges: Sequence[bool]) -> int:
    """Number of ways to choose the token counts of the steps of one stage.

    Args:
        space: Defines the limits of keep ratios.
        geometry: The backbone.
        stage: The stage.
        merges: For each step, whether it is a merge.
    """
    num_tokens = geometry.stages[stage].num_tokens
    low, high = (num_kept(num_tokens, ratio) for ratio in space.ratio_limits(stage))
    high = min(high, num_tokens - 1)
    if not space.monotone:
        return int(max(0, high - low + 1) ** len(merges))
    if not any(merges):
        return math.comb(max(0, high - low + 1), len(merges))
    ways = [0] * num_tokens + [1]  # indexed by the number of tokens that arrive
    for merge in merges:
        upto = [0, *accumulate(ways)]
        ways = [
            upto[(min(2 * count, num_tokens) if merge else num_tokens) + 1] - upto[count + 1]
            if low <= count <= high
            else 0
            for count in range(num_tokens + 1)
        ]
    return sum(ways)


def options(space: ResolvedSpace, methods: Sequence[Method], location: Location) -> list[Pattern]:
    """The options at a location, each as a tuple over its steps: whether the step is a merge."""
    found: list[Pattern] = []
    for method in methods:
        if method.is_possible_at(location):
            found.append((isinstance(method.reducer, Merge),))
            if may_merge_after(method, location, space):
                found.append((False, True))
    return found


def _alternatives(space: ResolvedSpace) -> list[tuple[Method, ...]]:
    """Sets of methods that may be combined in one schedule."""
    return [(method,) for method in space.methods] if space.methods_per == "schedule" else [space.methods]


def _placements(space: ResolvedSpace) -> dict[int, int]:
    """Number of sets of locations for each number of predictors."""
    unrestricted = Method(reducer=space.methods[0].reducer, scorer=None)
    always = unrestricted.model_copy(update={"phase": "before_ffn"})
    plain = space.model_copy(update={"merge": None})
    return _sum_over(plain, (always,), lambda stage, pattern: 1)


def _sum_over(space: ResolvedSpace, methods: Sequence[Method], weight: Callable[[int, Pattern], int]) -> dict[int, int]:
    """The summed weights of all shapes, for each number of predictors.

    Args:
        space: The search space.
        methods: Methods to choose from at every location.
        weight: Weight of the steps of one stage; that of a shape is the product over its stages.
    """
    partial: dict[tuple[int, Pattern], int] = {(0, ()): 1}
    stage = -1
    for index, location in enumerate(space.locations):
        if location[0] != stage:
            partial = _closed(partial, stage, weight)
            stage = location[0]
        further = dict(partial)
        for (num, pattern), ways in partial.items():
            if num == space.max_predictors or (not pattern and index > space.firsts.get(stage, index)):
                continue
            for option in options(space, methods, location):
                key = (num + 1, pattern + option)
                further[key] = further.get(key, 0) + ways
        partial = further
    closed = _closed(partial, stage, weight)
    return {num: ways for (num, _), ways in sorted(closed.items()) if num >= space.min_predictors}


def _closed(
    partial: dict[tuple[int, Pattern], int], stage: int, weight: Callable[[int, Pattern], int]
) -> dict[tuple[int, Pattern], int]:
    """The partial sums at the end of a stage: each is multiplied by the weight of its pattern."""
    closed: dict[tuple[int, Pattern], int] = {}
    for (num, pattern), ways in partial.items():
        times = weight(stage, pattern) if pattern else 1
        closed[num, ()] = closed.get((num, ()), 0) + ways * times
    return closed
