"""Shapes as flat parameters for samplers, and back.

All parameters are always present, so that neither crossover nor a joint density has to deal with parameters that come
and go: `predictors` says how many of the slots count, `position_i` is an index into the space's blocks, `weight_i` a
relative weight. Every vector inside the bounds decodes to a valid shape: positions are sorted and moved apart.
Parameters with a single possible value are left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sparsesearch.errors import SpaceError
from sparsesearch.geometry import BackboneGeometry
from sparsesearch.schedule import Schedule
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.sampling import MIN_WEIGHT, Shape, canonical_weights, place

Params = dict[str, int | float | str]

_IDLE_WEIGHT = (1.0 + MIN_WEIGHT) / 2.0


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """Bounds of one flat parameter, both ends included.

    Attributes:
        name: Its name.
        kind: `int`, `float` or `choice` (an unordered index).
        low: Smallest value.
        high: Largest value.
    """

    name: str
    kind: Literal["int", "float", "choice"]
    low: float
    high: float


def parameters(space: SearchSpace) -> tuple[Parameter, ...]:
    """The flat parameters of a space.

    Args:
        space: A space for a geometry (its blocks spelled out).
    """
    slots = space.max_predictors
    last = len(space.blocks) - 1
    found = [Parameter(name="predictors", kind="int", low=space.min_predictors, high=slots)]
    found += [Parameter(name=f"position_{i}", kind="int", low=i, high=last) for i in range(slots)]
    if slots > 1:
        found += [Parameter(name=f"weight_{i}", kind="float", low=MIN_WEIGHT, high=1.0) for i in range(slots)]
    found.append(Parameter(name="scorer", kind="choice", low=0, high=len(space.scorers) - 1))
    return tuple(parameter for parameter in found if parameter.low < parameter.high)


def decode(params: Mapping[str, int | float | str], *, space: SearchSpace, latest_first: int | None = None) -> Shape:
    """The shape that flat parameters stand for; total on everything inside the bounds.

    Args:
        params: Values by name; parameters that are left out take their only value.
        space: A space for a geometry (its blocks spelled out).
        latest_first: Index into `space.blocks` behind which the first step may not lie.
    """
    num = int(params.get("predictors", space.min_predictors))
    positions = [int(params.get(f"position_{i}", i)) for i in range(num)]
    places = place(positions, num_places=len(space.blocks), latest_first=latest_first)
    return Shape(
        blocks=tuple(space.blocks[p] for p in places),
        weights=canonical_weights([float(params.get(f"weight_{i}", 1.0)) for i in range(num)]),
        scorer=space.scorers[int(params.get("scorer", 0))],
    )


def shape_of(schedule: Schedule, *, geometry: BackboneGeometry) -> Shape:
    """The shape of a schedule of an isotropic backbone, read off its integer counts; idle steps vanish.

    Raises:
        SpaceError: The schedule is dense, mixes scorers, or has several steps at one block or a `before_ffn` step.
    """
    steps = schedule.resolve(geometry)
    blocks = tuple(step.block for step in steps)
    scorers = {step.scorer for step in steps}
    if len(scorers) != 1 or len(set(blocks)) != len(blocks) or any(step.phase != "before_block" for step in steps):
        raise SpaceError(
            f"{schedule.describe(geometry)} is not a shape; use one scorer and at most one before_block step a block"
        )
    counts = [geometry.stages[0].num_tokens, *(step.num_tokens for step in steps)]
    weights = tuple(math.log(before / after) for before, after in itertools.pairwise(counts))
    return Shape(blocks=blocks, weights=weights, scorer=scorers.pop())


def encode(schedule: Schedule, *, geometry: BackboneGeometry, space: SearchSpace) -> Params:
    """Flat parameters of the canonical form of a schedule.

    Equal models have equal parameters. Slots that do not count carry fixed values. Ratios of weights above
    `1 / MIN_WEIGHT` are cut, so that decoding may give a slightly milder shape than the schedule has.

    Raises:
        SpaceError: The schedule is not of this space.
    """
    shape = shape_of(schedule, geometry=geometry)
    num = len(shape.blocks)
    outside = [block for block in shape.blocks if block not in space.blocks]
    if outside or not space.min_predictors <= num <= space.max_predictors or shape.scorer not in space.scorers:
        raise SpaceError(
            f"{schedule.describe(geometry)} is outside the search space; it allows {space.min_predictors} to "
            f"{space.max_predictors} predictors at blocks {list(space.blocks)}"
        )
    weights = canonical_weights(shape.weights)
    values: Params = {"predictors": num, "scorer": space.scorers.index(shape.scorer)}
    for slot in range(space.max_predictors):
        used = slot < num
        values[f"position_{slot}"] = space.blocks.index(shape.blocks[slot]) if used else len(space.blocks) - 1
        values[f"weight_{slot}"] = weights[slot] if used else _IDLE_WEIGHT
    return {parameter.name: values[parameter.name] for parameter in parameters(space)}
