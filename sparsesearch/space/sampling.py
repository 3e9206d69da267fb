"""How to draw, change and cross shapes; whatever comes out is a shape of the space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sparsesearch.schedule.methods import Fuse, Prune
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.shape import (
    MIN_WEIGHT,
    LocatedMethod,
    Location,
    Method,
    Shape,
    canonical_share,
    canonical_weights,
)

_SWITCH = 0.1  # share of mutations that change a method, or let a merge come or go


class Gene(NamedTuple):
    """What is wanted of one place of a shape; it need not be possible.

    Attributes:
        place: Index into the space's locations.
        weight: Its weight.
        method: Index into the space's methods.
        merge_share: Share of a merge right behind it, 0 for none.
    """

    place: int
    weight: float
    method: int = 0
    merge_share: float = 0.0


def place(
    positions: Sequence[int], *, num_locations: int, latest_first: int | None = None, lowest: int = 0
) -> tuple[int, ...]:
    """Turn any list of places into distinct rising ones, moving each as little as order and bounds allow.

    Args:
        positions: Wished places, in any order, repeats allowed; at most `num_locations - lowest` of them.
        num_locations: Places are 0 to `num_locations - 1`.
        latest_first: The first may not lie behind this place; None for no such limit.
        lowest: None may lie before this place.
    """
    assert len(positions) <= num_locations - lowest
    requested = sorted(min(max(place, lowest), num_locations - 1) for place in positions)
    if latest_first is not None:
        requested[0] = min(requested[0], max(latest_first, lowest))
    placed: list[int] = []
    for step, gene in enumerate(requested):
        least = placed[-1] + 1 if placed else lowest
        highest = num_locations - (len(requested) - step)
        placed.append(min(max(gene, least), highest))
    return tuple(placed)


def settle(genes: Sequence[Gene], space: SearchSpace, *, latest_first: int | None = None) -> Shape:
    """The shape of a space that is nearest to what is requested.

    Places are sorted and moved apart; methods that a place cannot have give way to the first that it can. Where one
    method is used throughout, it is that of the first gene.

    Args:
        genes: At least one, at most `space.max_predictors`; weights stay in this order while places are sorted.
        space: A space for a geometry (spelled out).
        latest_first: Index into `space.locations` behind which the first step may not lie.
    """
    locations = space.locations
    methods = [space.methods[gene.method] for gene in genes]
    lowest = 0
    if space.methods_per == "schedule":
        methods = methods[:1] * len(genes)
        lowest = next(i for i, location in enumerate(locations) if methods[0].is_possible_at(location))
    genes = genes[: len(locations) - lowest]
    places = place(
        [gene.place for gene in genes], num_locations=len(locations), latest_first=latest_first, lowest=lowest
    )
    if space.firsts:
        places = _with_early_starts(places, space)
    weights = canonical_weights([gene.weight for gene in genes])
    placed = []
    for index, weight, method, gene in zip(places, weights, methods, genes, strict=False):
        location = locations[index]
        if not method.is_possible_at(location):
            method = next(method for method in space.methods if method.is_possible_at(location))
        share = canonical_share(gene.merge_share) if may_merge_behind(method, location, space) else 0.0
        placed.append(LocatedMethod(location, method, weight, space.merge if share else None, share))
    return Shape.of_methods(placed, monotone=is_monotone(space))


def is_monotone(space: SearchSpace) -> bool:
    """Whether ratios of a space's shapes fall inside a stage: they may rise only where nothing is dropped."""
    return space.monotone or any(method.reducer.kind != "fast_slow" for method in space.methods)


def may_merge_behind(method: Method, location: Location, space: SearchSpace) -> bool:
    """Whether a merge may follow a method at a location."""
    if not space.merge_after_prune or not isinstance(method.reducer, Prune | Fuse):
        return False
    return Method(reducer=space.merge, phase=method.phase).is_possible_at(location)


def _with_early_starts(places: tuple[int, ...], space: SearchSpace) -> tuple[int, ...]:
    """Places with the first of each stage no later than the space allows."""
    moved, seen = list(places), set()
    for i, index in enumerate(places):
        stage = space.locations[index][0]
        if stage not in seen:
            seen.add(stage)
            moved[i] = min(index, space.firsts.get(stage, index))
    return tuple(moved)


def genes_of(shape: Shape, space: SearchSpace) -> list[Gene]:
    """What would have to be requested for to get a shape of the space."""
    return [
        Gene(
            place=space.locations.index(placed.location),
            weight=placed.weight,
            method=space.methods.index(placed.method),
            merge_share=placed.merge_share,
        )
        for placed in shape.places
    ]


def draw_shape(space: SearchSpace, *, rng: np.random.Generator, latest_first: int | None = None) -> Shape:
    """A random shape of the space.

    Args:
        space: A space for a geometry (spelled out).
        rng: Source of randomness.
        latest_first: Index into `space.locations` behind which the first step may not lie.
    """
    num = int(rng.integers(space.min_predictors, space.max_predictors + 1))
    positions = [int(p) for p in rng.choice(len(space.locations), size=num, replace=False)]
    weights = [float(w) for w in rng.uniform(MIN_WEIGHT, 1.0, size=num)]
    num_methods = 1 if space.methods_per == "schedule" else num
    methods = [int(m) for m in rng.integers(len(space.methods), size=num_methods)]
    shares = [0.0] * num
    if space.merge_after_prune:
        shares = [float(s) if s > 0.0 else 0.0 for s in rng.uniform(-1.0, 1.0, size=num)]
    genes = [
        Gene(place=position, weight=weight, method=methods[i % num_methods], merge_share=share)
        for i, (position, weight, share) in enumerate(zip(positions, weights, shares, strict=True))
    ]
    return settle(genes, space, latest_first=latest_first)


def mutate_shape(
    shape: Shape, space: SearchSpace, *, rng: np.random.Generator, latest_first: int | None = None
) -> Shape:
    """A neighbour of a shape, inside the space: a step moves, comes or goes, weights change, methods may.

    Args:
        shape: A shape of the space.
        space: A space for a geometry (spelled out).
        rng: Source of randomness.
        latest_first: Index into `space.locations` behind which the first step may not lie.
    """
    genes = genes_of(shape, space)
    kind = int(rng.integers(4))
    if kind == 0 and len(genes) < space.max_predictors:
        taken = {gene.place for gene in genes}
        free = [p for p in range(len(space.locations)) if p not in taken]
        weight = float(np.median([gene.weight for gene in genes]))
        beside = genes[int(rng.integers(len(genes)))] if space.methods_per == "location" else genes[0]
        genes.append(Gene(place=free[int(rng.integers(len(free)))], weight=weight, method=beside.method))
        genes.sort(key=lambda gene: gene.place)
    elif kind == 1 and len(genes) > space.min_predictors:
        del genes[int(rng.integers(len(genes)))]
    elif kind == 2:
        moved = int(rng.integers(len(genes)))
        by = int(rng.choice([-2, -1, 1, 2]))
        genes[moved] = genes[moved]._replace(place=genes[moved].place + by)
    genes = [gene._replace(weight=gene.weight * float(np.exp(rng.normal(0.0, 0.5)))) for gene in genes]
    if space.merge_after_prune:
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
