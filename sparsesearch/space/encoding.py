"""Shapes as flat parameters for samplers, and back.

All parameters are always present, so that neither crossover nor a joint density has to deal with parameters that come
and go: `predictors` says how many of the steps count, `position_i` is an index into the space's locations, `weight_i` a
relative weight, `method` or `method_i` an index into its methods, `merge_i` whether a merge follows (above a half) and
how much of the drop it makes. Every vector inside the bounds decodes to a valid shape: positions are sorted and moved
apart. Parameters with a single possible value are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sparsesearch.errors import SpaceError, one_line
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.sampling import Gene, is_monotone, may_merge_behind, settle
from sparsesearch.space.shape import MIN_WEIGHT, Shape, ShapeStep, canonical_share, canonical_weights

Params = dict[str, int | float | str]

_IDLE_WEIGHT = (1.0 + MIN_WEIGHT) / 2.0
_NO_MERGE = 0.25


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
        space: A space for a geometry (spelled out).
    """
    steps = space.max_predictors
    last, last_method = len(space.locations) - 1, len(space.methods) - 1
    found = [Parameter(name="predictors", kind="int", low=space.min_predictors, high=steps)]
    found += [Parameter(name=f"position_{i}", kind="int", low=i, high=last) for i in range(steps)]
    if steps > 1:
        found += [Parameter(name=f"weight_{i}", kind="float", low=MIN_WEIGHT, high=1.0) for i in range(steps)]
    if space.methods_per == "schedule":
        found.append(Parameter(name="method", kind="choice", low=0, high=last_method))
    else:
        found += [Parameter(name=f"method_{i}", kind="choice", low=0, high=last_method) for i in range(steps)]
    if space.merge_after_prune:
        found += [Parameter(name=f"merge_{i}", kind="float", low=0.0, high=1.0) for i in range(steps)]
    return tuple(parameter for parameter in found if parameter.low < parameter.high)


def decode(params: Mapping[str, int | float | str], *, space: SearchSpace, latest_first: int | None = None) -> Shape:
    """The shape that flat parameters stand for; total on everything inside the bounds.

    Args:
        params: Values by name; parameters that are left out take their only value.
        space: A space for a geometry (spelled out).
        latest_first: Index into `space.locations` behind which the first step may not lie.
    """
    throughout = int(params.get("method", 0))
    genes = [
        Gene(
            place=int(params.get(f"position_{i}", i)),
            weight=float(params.get(f"weight_{i}", 1.0)),
            method=int(params.get(f"method_{i}", throughout)),
            merge_share=max(0.0, 2.0 * float(params.get(f"merge_{i}", _NO_MERGE)) - 1.0),
        )
        for i in range(int(params.get("predictors", space.min_predictors)))
    ]
    return settle(genes, space, latest_first=latest_first)


def shape_of(schedule: Schedule, *, geometry: BackboneGeometry, monotone: bool = True) -> Shape:
    """The shape of a schedule, read off its integer counts; idle steps vanish.

    Args:
        schedule: A schedule of the backbone.
        geometry: The backbone.
        monotone: As in `Shape`.

    Raises:
        SpaceError: The schedule is dense, has steps at one location that are not a prune or fuse with a merge behind,
            or has slow shares that rise although `monotone` is asked for.
    """
    steps = []
    before: dict[int, int] = {}
    for step in schedule.resolve(geometry):
        arrives = geometry.stages[step.stage].num_tokens
        if monotone:
            arrives = before.get(step.stage, arrives)
        before[step.stage] = step.num_tokens
        try:
            made = ShapeStep(
                stage=step.stage,
                block=step.block,
                phase=step.phase,
                weight=math.log(arrives / step.num_tokens),
                reducer=step.reducer,
                scorer=step.scorer,
            )
        except ValueError as error:
            raise SpaceError(
                f"{schedule.describe(geometry)} is not a shape; its ratios must fall with depth"
            ) from error
        steps.append(made)
    try:
        return Shape(steps=tuple(steps), monotone=monotone)
    except ValueError as error:
        raise SpaceError(f"{schedule.describe(geometry)} is not a shape: {one_line(error)}") from error


def encode(schedule: Schedule, *, geometry: BackboneGeometry, space: SearchSpace) -> Params:
    """Flat parameters of the canonical form of a schedule.

    Equal models have equal parameters. Steps that do not count carry fixed values. Ratios of weights above
    `1 / MIN_WEIGHT` are cut, so that decoding may give a slightly milder shape than the schedule has.

    Raises:
        SpaceError: The schedule is not of this space.
    """
    shape = shape_of(schedule, geometry=geometry, monotone=is_monotone(space))
    reason = outside(shape, space)
    if reason is not None:
        raise SpaceError(f"{schedule.describe(geometry)} is outside the search space; {reason}")
    places = shape.places
    weights = canonical_weights([placed.weight for placed in places])
    values: Params = {"predictors": len(places), "method": space.methods.index(places[0].method)}
    for step in range(space.max_predictors):
        used = step < len(places)
        share = canonical_share(places[step].merge_share) if used else 0.0
        values[f"position_{step}"] = space.locations.index(places[step].location) if used else len(space.locations) - 1
        values[f"weight_{step}"] = weights[step] if used else _IDLE_WEIGHT
        values[f"method_{step}"] = space.methods.index(places[step].method) if used else 0
        values[f"merge_{step}"] = 0.5 + 0.5 * share if share else _NO_MERGE
    return {parameter.name: values[parameter.name] for parameter in parameters(space)}


def outside(shape: Shape, space: SearchSpace) -> str | None:
    """Why a shape is not one of a space; None if it is.

    Args:
        shape: Any shape.
        space: A space for a geometry (spelled out).
    """
    places = shape.places
    locations = {placed.location for placed in places}
    if not locations <= set(space.locations) or not space.min_predictors <= len(places) <= space.max_predictors:
        blocks = [block if space.stages is None else f"{stage}.{block}" for stage, block in space.locations]
        listed = ", ".join(str(block) for block in blocks)
        return f"it allows {space.min_predictors} to {space.max_predictors} predictors at blocks [{listed}]"
    if len(locations) < len(places):
        return "it does one thing at a block"
    methods = {placed.method for placed in places}
    unknown = [method for method in methods if method not in space.methods]
    if unknown:
        return f"it does not have {unknown[0].describe()}"
    if space.methods_per == "schedule" and len(methods) > 1:
        return "it uses one method throughout a schedule"
    for placed in places:
        if placed.merge is not None and (
            placed.merge != space.merge or not may_merge_behind(placed.method, placed.location, space)
        ):
            return f"it has no merge behind block {placed.location[1]}"
    starts: dict[int, int] = {}
    for placed in places:
        starts.setdefault(placed.location[0], space.locations.index(placed.location))
    for stage, latest in space.firsts.items():
        if starts.get(stage, 0) > latest:
            return f"it wants the first step of stage {stage} at block {space.locations[latest][1]} or before"
    return None
