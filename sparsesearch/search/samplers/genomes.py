"""Vectorised genomes: many shapes as arrays of genes, with drawing, mutation and crossover.

The operators are those of `space.sampling`, on arrays. `space.sampling.settle` turns the genes of the few best genomes
into shapes of the space.

Shapes: `P` genomes, `S` steps at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sparsesearch.search.samplers.arrays import Bools, Floats, Ints
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.sampling import Gene
from sparsesearch.space.shape import MIN_WEIGHT

_JITTERS = (0.1, 0.3, 0.6)  # standard deviations of the logarithm of a weight
_SWITCH = 0.1  # fraction of methods and merges that change


class Genomes(NamedTuple):
    """Genes of shapes, one shape per row; the first `num_P` steps of a row are active, at increasing locations.

    Attributes:
        location_PS: Indices into the space's locations.
        weight_PS: Weights of the steps.
        method_PS: Indices into the space's methods.
        share_PS: Fractions of the weight for merges directly after the steps; 0 for none.
        num_P: Number of active steps.
    """

    location_PS: Ints
    weight_PS: Floats
    method_PS: Ints
    share_PS: Floats
    num_P: Ints

    @property
    def used_PS(self) -> Bools:
        """Mask of the active steps."""
        used_PS: Bools = np.arange(self.location_PS.shape[1]) < self.num_P[:, None]
        return used_PS

    def take(self, rows: Ints) -> Genomes:
        """The given rows, in this order."""
        return Genomes(
            self.location_PS[rows], self.weight_PS[rows], self.method_PS[rows], self.share_PS[rows], self.num_P[rows]
        )

    def genes(self, row: int) -> list[Gene]:
        """One row as genes."""
        return [
            Gene(
                position=int(self.location_PS[row, s]),
                weight=float(self.weight_PS[row, s]),
                method=int(self.method_PS[row, s]),
                merge_share=float(self.share_PS[row, s]),
            )
            for s in range(int(self.num_P[row]))
        ]


def joined(parts: Sequence[Genomes]) -> Genomes:
    """Concatenate several populations."""
    return Genomes(
        np.concatenate([part.location_PS for part in parts]),
        np.concatenate([part.weight_PS for part in parts]),
        np.concatenate([part.method_PS for part in parts]),
        np.concatenate([part.share_PS for part in parts]),
        np.concatenate([part.num_P for part in parts]),
    )


def genomes_of(rows: Sequence[Sequence[Gene]], space: ResolvedSpace) -> Genomes:
    """Genes as rows; the inverse of `Genomes.genes`."""
    width = space.max_predictors
    location_PS, method_PS = np.zeros((2, len(rows), width), dtype=np.int64)
    weight_PS, share_PS = np.ones((len(rows), width)), np.zeros((len(rows), width))
    for p, row in enumerate(rows):
        for s, gene in enumerate(row):
            location_PS[p, s], weight_PS[p, s], method_PS[p, s], share_PS[p, s] = gene.position, *gene[1:]
    return Genomes(location_PS, weight_PS, method_PS, share_PS, np.array([len(row) for row in rows], dtype=np.int64))


class Variation:
    """Draws, mutates and crosses genomes of a space.

    Args:
        space: The search space.
    """

    def __init__(self, space: ResolvedSpace) -> None:
        self._num_locations, self._num_methods = len(space.locations), len(space.methods)
        self._least, self._most = space.min_predictors, space.max_predictors
        self._one_method, self._merges = space.methods_per == "schedule", space.merge is not None

    def draw(self, num: int, *, rng: np.random.Generator) -> Genomes:
        """Random genomes."""
        size = (num, self._most)
        order_PS = np.argsort(rng.random((num, self._num_locations)), axis=1)[:, : self._most]
        share_PS = np.maximum(rng.uniform(-1.0, 1.0, size), 0.0) if self._merges else np.zeros(size)
        return self._tidy(
            Genomes(
                order_PS,
                rng.uniform(MIN_WEIGHT, 1.0, size),
                rng.integers(self._num_methods, size=size),
                share_PS,
                rng.integers(self._least, self._most + 1, size=num),
            )
        )

    def mutate(self, parents: Genomes, *, rng: np.random.Generator) -> Genomes:
        """A neighbour of each genome: a step is added, removed or moved, weights change, methods and merges may."""
        num = len(parents.num_P)
        everyone, size = np.arange(num), parents.location_PS.shape
        location_PS, weight_PS, num_P = parents.location_PS.copy(), parents.weight_PS.copy(), parents.num_P
        method_PS, share_PS = parents.method_PS.copy(), parents.share_PS.copy()
        kind_P = rng.integers(4, size=num)
        step_P = (rng.random(num) * num_P).astype(np.int64)
        is_more = (kind_P == 0) & (num_P < self._most)
        new_P = np.minimum(num_P, self._most - 1)
        typical_P = weight_PS.sum(axis=1, where=parents.used_PS) / num_P
        more, new = everyone[is_more], new_P[is_more]
        location_PS[more, new] = rng.integers(self._num_locations, size=num)[is_more]
        weight_PS[more, new] = typical_P[is_more]
        method_PS[more, new] = method_PS[more, step_P[is_more]]
        share_PS[more, new] = 0.0
        is_less = (kind_P == 1) & (num_P > self._least)
        location_PS[everyone[is_less], step_P[is_less]] = self._num_locations  # sorted to the end, where it is inactive
        is_moved = kind_P == 2
        location_PS[everyone[is_moved], step_P[is_moved]] += rng.choice([-2, -1, 1, 2], size=num)[is_moved]
        jitter_P = rng.choice(_JITTERS, size=num)
        weight_PS *= np.exp(jitter_P[:, None] * rng.standard_normal(size))
        is_switched = rng.random(size) < _SWITCH
        other_PS = rng.integers(self._num_methods, size=size)
        if self._one_method:
            is_switched, other_PS = is_switched[:, :1], other_PS[:, :1]
        method_PS = np.where(is_switched, other_PS, method_PS)
        if self._merges:
            nudged_PS = np.where(share_PS > 0.0, share_PS + 0.1 * rng.standard_normal(size), 0.0)
            flipped_PS = np.where(share_PS > 0.0, 0.0, rng.uniform(MIN_WEIGHT, 1.0, size))
            share_PS = np.clip(np.where(rng.random(size) < _SWITCH, flipped_PS, nudged_PS), 0.0, 1.0 - MIN_WEIGHT)
        before = Genomes(location_PS, weight_PS, method_PS, share_PS, np.where(is_more, num_P + 1, num_P))
        return self._tidy(before, num_P=before.num_P - is_less)

    def cross(self, first: Genomes, second: Genomes, *, rng: np.random.Generator) -> Genomes:
        """One child per pair: its number of steps is between those of its parents, and each step is one of a parent."""
        num, width = first.location_PS.shape
        used_PT = np.concatenate([first.used_PS, second.used_PS], axis=1)
        order_PT = np.argsort(np.where(used_PT, rng.random(used_PT.shape), 2.0), axis=1)
        locations_PT = np.concatenate([first.location_PS, second.location_PS], axis=1)
        location_PT, used_PT = (np.take_along_axis(values, order_PT, axis=1) for values in (locations_PT, used_PT))
        same_PTT = (location_PT[:, :, None] == location_PT[:, None, :]) & used_PT[:, None, :]
        is_repeat_PT = np.tril(same_PTT, k=-1).any(axis=2) | ~used_PT
        order_PT = np.take_along_axis(order_PT, np.argsort(is_repeat_PT, axis=1, kind="stable"), axis=1)[:, :width]
        fewest_P, largest_P = np.minimum(first.num_P, second.num_P), np.maximum(first.num_P, second.num_P)
        wanted_P = fewest_P + (rng.random(num) * (largest_P - fewest_P + 1)).astype(np.int64)
        num_P = np.minimum(wanted_P, (~is_repeat_PT).sum(axis=1))
        child = Genomes(
            np.take_along_axis(locations_PT, order_PT, axis=1),
            np.take_along_axis(np.concatenate([first.weight_PS, second.weight_PS], axis=1), order_PT, axis=1),
            np.take_along_axis(np.concatenate([first.method_PS, second.method_PS], axis=1), order_PT, axis=1),
            np.take_along_axis(np.concatenate([first.share_PS, second.share_PS], axis=1), order_PT, axis=1),
            num_P,
        )
        return self._tidy(child)

    def _tidy(self, genomes: Genomes, *, num_P: Ints | None = None) -> Genomes:
        """Sort locations and make them distinct, as in `distinct_positions`; scale weights to a maximum of 1.

        Args:
            genomes: The first `genomes.num_P` steps of a row are active.
            num_P: Number of active steps after sorting; None for all.
        """
        sortable_PS = np.where(genomes.used_PS, genomes.location_PS, self._num_locations + 1)
        order_PS = np.argsort(sortable_PS, axis=1, kind="stable")
        location_PS = np.take_along_axis(genomes.location_PS, order_PS, axis=1)
        num_P = genomes.num_P if num_P is None else num_P
        weight_PS = np.take_along_axis(genomes.weight_PS, order_PS, axis=1)
        method_PS = np.take_along_axis(genomes.method_PS, order_PS, axis=1)
        share_PS = np.take_along_axis(genomes.share_PS, order_PS, axis=1)
        lowest_P = np.zeros(len(num_P), dtype=np.int64)
        for step in range(location_PS.shape[1]):
            highest_P = self._num_locations - (num_P - step)
            location_PS[:, step] = np.clip(location_PS[:, step], lowest_P, np.maximum(highest_P, lowest_P))
            lowest_P = location_PS[:, step] + 1
        location_PS = np.minimum(location_PS, self._num_locations - 1)
        used_PS = np.arange(location_PS.shape[1]) < num_P[:, None]
        largest_P = weight_PS.max(axis=1, where=used_PS, initial=1e-12)
        weight_PS = np.clip(weight_PS / largest_P[:, None], MIN_WEIGHT, 1.0)
        if self._one_method:
            method_PS = np.repeat(method_PS[:, :1], method_PS.shape[1], axis=1)
        return Genomes(location_PS, weight_PS, method_PS, share_PS, num_P)
