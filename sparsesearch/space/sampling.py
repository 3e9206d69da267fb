"""Draw and mutate shapes; every result is a shape of the space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sparsesearch.schedule.methods import Fuse, Prune
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.shape import (
    MIN_WEIGHT,
    LocatedMethod,
    Location,
    Method,
    Shape,
    canonical_share,
    canonical_weights,
)

_SWITCH = 0.1  # probability that a mutation changes a method, or adds or removes a merge


class Gene(NamedTuple):
    """One requested step of a shape; it need not be feasible.

    Attributes:
        position: Index into the space's locations.
        weight: Relative weight of its drop.
        method: Index into the space's methods.
        merge_share: Fraction of the weight for a merge directly after it; 0 for none.
    """

    position: int
    weight: float
    method: int = 0
    merge_share: float = 0.0


def distinct_positions(
    positions: Sequence[int], *, num_locations: int, latest_first: int | None = None, lowest: int = 0
) -> tuple[int, ...]:
    """Sort positions and make them distinct, moving each as little as order and bounds allow.

    Args:
        positions: Requested positions, in any order, with repeats; at most `num_locations - lowest` of them.
        num_locations: Positions are 0 to `num_locations - 1`.
        latest_first: Largest first position; None for no limit.
        lowest: Smallest position.
    """
    assert len(positions) <= num_locations - lowest
    requested = sorted(min(max(position, lowest), num_locations - 1) for position in positions)
    if latest_first is not None:
        requested[0] = min(requested[0], max(latest_first, lowest))
    found: list[int] = []
    for step, position in enumerate(requested):
        least = found[-1] + 1 if found else lowest
        highest = num_locations - (len(requested) - step)
        found.append(min(max(position, least), highest))
    return tuple(found)


def settle(genes: Sequence[Gene], space: ResolvedSpace, *, latest_first: int | None = None) -> Shape:
    """The shape of a space that is closest to the requested genes.

    Positions are sorted and made distinct; a method that is not possible at its location is replaced by the first that
    is. If one method is used throughout, it is that of the first gene.

    Args:
        genes: 1 to `space.max_predictors` genes; weights stay in this order while positions are sorted.
        space: The search space.
        latest_first: Last index into `space.locations` at which the first step may be.
    """
    locations = space.locations
    methods = [space.methods[gene.method] for gene in genes]
    lowest = 0
    if space.methods_per == "schedule":
        methods = methods[:1] * len(genes)
        lowest = next(i for i, location in enumerate(locations) if methods[0].is_possible_at(location))
    genes = genes[: len(locations) - lowest]
    positions = distinct_positions(
        [gene.position for gene in genes], num_locations=len(locations), latest_first=latest_first, lowest=lowest
    )
    if space.firsts:
        positions = _with_early_starts(positions, space)
    weights = canonical_weights([gene.weight for gene in genes])
    located = []
    for index, weight, method, gene in zip(positions, weights, methods, genes, strict=False):
        location = locations[index]
        if not method.is_possible_at(location):
            method = next(method for method in space.methods if method.is_possible_at(location))
        share = canonical_share(gene.merge_share) if may_merge_after(method, location, space) else 0.0
        located.append(LocatedMethod(location, method, weight, space.merge if share else None, share))
    return Shape.of_methods(located, monotone=space.monotone)


def may_merge_after(method: Method, location: Location, space: ResolvedSpace) -> bool:
    """Whether a merge may follow a method at a location."""
    if space.merge is None or not isinstance(method.reducer, Prune | Fuse):
        return False
    return Method(reducer=space.merge, phase=method.phase).is_possible_at(location)


def _with_early_starts(positions: tuple[int, ...], space: ResolvedSpace) -> tuple[int, ...]:
    """Positions with the first of each stage no later than the space allows."""
    moved, seen = list(positions), set()
    for i, index in enumerate(positions):
        stage = space.locations[index][0]
        if stage not in seen:
            seen.add(stage)
            moved[i] = min(index, space.firsts.get(stage, index))
    return tuple(moved)


def genes_of(shape: Shape, space: ResolvedSpace) -> list[Gene]:
    """The genes of a shape of the space; the inverse of `settle`."""
    return [
        Gene(
            position=space.locations.index(located.location),
            weight=located.weight,
            method=space.methods.index(located.method),
            merge_share=located.merge_share,
        )
        for located in shape.located_methods
    ]


def draw_shape(space: ResolvedSpace, *, rng: np.random.Generator, latest_first: int | None = None) -> Shape:
    """A random shape of the space.

    Args:
        space: The search space.
        rng: Source of randomness.
        latest_first: Last index into `space.locations` at which the first step may be.
    """
    num = int(rng.integers(space.min_predictors, space.max_predictors + 1))
    positions = [int(p) for p in rng.choice(len(space.locations), size=num, replace=False)]
    weights = [float(w) for w in rng.uniform(MIN_WEIGHT, 1.0, size=num)]
    num_methods = 1 if space.methods_per == "schedule" else num
    methods = [int(m) for m in rng.integers(len(space.methods), size=num_methods)]
    shares = [0.0] * num
    if space.merge is not None:
        shares = [float(s) if s > 0.0 else 0.0 for s in rng.uniform(-1.0, 1.0, size=num)]
    genes = [
        Gene(position=position, weight=weight, method=methods[i % num_methods], merge_share=share)
        for i, (position, weight, share) in enumerate(zip(positions, weights, shares, strict=True))
    ]
    return settle(genes, space, latest_first=latest_first)


def mutate_shape(
    shape: Shape, space: ResolvedSpace, *, rng: np.random.Generator, latest_first: int | None = None
) -> Shape:
    """A neighbour of a shape in the space: a step is moved, added or removed, weights change, and methods may change.

    Args:
        shape: A shape of the space.
        space: The search space.
        rng: Source of randomness.
        latest_first: Last index into `space.locations` at which the first step may be.
    """
    genes = genes_of(shape, space)
    kind = int(rng.integers(4))
    if kind == 0 and len(genes) < space.max_predictors:
        taken = {gene.position for gene in genes}
        free = [p for p in range(len(space.locations)) if p not in taken]
        weight = float(np.median([gene.weight for gene in genes]))
        template = genes[int(rng.integers(len(genes)))] if space.methods_per == "location" else genes[0]
        genes.append(Gene(position=free[int(rng.integers(len(free)))], weight=weight, method=template.method))
        genes.sort(key=lambda gene: gene.position)
    elif kind == 1 and len(genes) > space.min_predictors:
        del genes[int(rng.integers(len(genes)))]
    elif kind == 2:
        moved = int(rng.integers(len(genes)))
        by = int(rng.choice([-2, -1, 1, 2]))
        genes[moved] = genes[moved]._replace(position=genes[moved].position + by)
    genes = [gene._replace(weight=gene.weight * float(np.exp(rng.normal(0.0, 0.5)))) for gene in genes]
    if space.merge is not None:
        genes = [gene._replace(merge_share=_changed_share(gene.merge_share, rng)) for gene in genes]
    if len(space.methods) > 1:
        if space.methods_per == "location":
            genes = [
                gene._replace(method=int(rng.integers(len(space.methods)))) if rng.random() < _SWITCH else gene
                for gene in genes
            ]
        elif rng.random() < _SWITCH:
            method = int(rng.integers(len(space.methods)))
            genes = [gene._replace(method=method) for gene in genes]
    return settle(genes, space, latest_first=latest_first)


def _changed_share(share: float, rng: np.random.Generator) -> float:
    if rng.random() < _SWITCH:
        return 0.0 if share else float(rng.uniform(MIN_WEIGHT, 1.0))
    return canonical_share(share + float(rng.normal(0.0, 0.1))) if share else 0.0
