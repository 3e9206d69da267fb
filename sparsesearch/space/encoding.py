"""Shapes as flat parameters for samplers, and back.

All parameters are always present, so that neither crossover nor a joint density has to handle conditional parameters:
`predictors` is the number of active steps, `position_i` an index into the space's locations, `weight_i` a relative
weight, `method` or `method_i` an index into its methods, and `merge_i` says whether a merge follows (above 0.5) and its
fraction of the drop. Every vector inside the bounds decodes to a valid shape: positions are sorted and made distinct.
Parameters with a single possible value are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sparsesearch.errors import SpaceError, one_line
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.sampling import Gene, may_merge_after, settle
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


def parameters(space: ResolvedSpace) -> tuple[Parameter, ...]:
    """The flat parameters of a space.

    Args:
        space: The search space.
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
    if space.merge is not None:
        found += [Parameter(name=f"merge_{i}", kind="float", low=0.0, high=1.0) for i in range(steps)]
    return tuple(parameter for parameter in found if parameter.low < parameter.high)


def decode(params: Mapping[str, int | float | str], *, space: ResolvedSpace, latest_first: int | None = None) -> Shape:
    """Decode flat parameters to a shape; defined for every vector inside the bounds.

    Args:
        params: Values by name; missing parameters take their only possible value.
        space: The search space.
        latest_first: Last index into `space.locations` at which the first step may be.
    """
    throughout = int(params.get("method", 0))
    genes = [
        Gene(
            position=int(params.get(f"position_{i}", i)),
            weight=float(params.get(f"weight_{i}", 1.0)),
            method=int(params.get(f"method_{i}", throughout)),
            merge_share=max(0.0, 2.0 * float(params.get(f"merge_{i}", _NO_MERGE)) - 1.0),
        )
        for i in range(int(params.get("predictors", space.min_predictors)))
    ]
    return settle(genes, space, latest_first=latest_first)


def shape_of(schedule: Schedule, *, geometry: BackboneGeometry, monotone: bool = True) -> Shape:
    """The shape of a schedule, derived from its integer counts; idle steps are dropped.

    Args:
        schedule: A schedule of the backbone.
        geometry: The backbone.
        monotone: As in `Shape`.

    Raises:
        SpaceError: The schedule is dense, has several steps at one location other than a prune or fuse followed by a
            merge, or has rising ratios although `monotone` is set.
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
                f"{schedule.describe(geometry)} is not a valid shape; its ratios must fall with depth"
            ) from error
        steps.append(made)
    try:
        return Shape(steps=tuple(steps), monotone=monotone)
    except ValueError as error:
        raise SpaceError(f"{schedule.describe(geometry)} is not a valid shape: {one_line(error)}") from error


def encode(schedule: Schedule, *, geometry: BackboneGeometry, space: ResolvedSpace) -> Params:
    """Flat parameters of the canonical form of a schedule.

    Equal models have equal parameters. Inactive steps have fixed values. Ratios of weights are clipped to
    `1 / MIN_WEIGHT`, so decoding may give a slightly milder shape than that of the schedule.

    Raises:
        SpaceError: The schedule is not in this space.
    """
    shape = shape_of(schedule, geometry=geometry, monotone=space.monotone)
    reason = outside(shape, space)
    if reason is not None:
        raise SpaceError(f"{schedule.describe(geometry)} is outside the search space; {reason}")
    located = shape.located_methods
    weights = canonical_weights([one.weight for one in located])
    values: Params = {"predictors": len(located), "method": space.methods.index(located[0].method)}
    for step in range(space.max_predictors):
        used = step < len(located)
        share = canonical_share(located[step].merge_share) if used else 0.0
        values[f"position_{step}"] = space.locations.index(located[step].location) if used else len(space.locations) - 1
        values[f"weight_{step}"] = weights[step] if used else _IDLE_WEIGHT
        values[f"method_{step}"] = space.methods.index(located[step].method) if used else 0
        values[f"merge_{step}"] = 0.5 + 0.5 * share if share else _NO_MERGE
    return {parameter.name: values[parameter.name] for parameter in parameters(space)}


def outside(shape: Shape, space: ResolvedSpace) -> str | None:
    """Why a shape is not in a space; None if it is.

    Args:
        shape: Any shape.
        space: The search space.
    """
    located = shape.located_methods
    locations = {one.location for one in located}
    if not locations <= set(space.locations) or not space.min_predictors <= len(located) <= space.max_predictors:
        is_isotropic = not any(stage for stage, _ in space.locations)
        listed = ", ".join(str(block) if is_isotropic else f"{stage}.{block}" for stage, block in space.locations)
        return f"it allows {space.min_predictors} to {space.max_predictors} predictors at blocks [{listed}]"
    if len(locations) < len(located):
        return "it allows one method per block"
    methods = {one.method for one in located}
    unknown = [method for method in methods if method not in space.methods]
    if unknown:
        return f"it does not contain the method {unknown[0].describe()}"
    if space.methods_per == "schedule" and len(methods) > 1:
        return "it uses one method throughout a schedule"
    for one in located:
        if one.merge is not None and (one.merge != space.merge or not may_merge_after(one.method, one.location, space)):
            return f"it does not allow this merge at block {one.location[1]}"
    starts: dict[int, int] = {}
    for one in located:
        starts.setdefault(one.location[0], space.locations.index(one.location))
    for stage, latest in space.firsts.items():
        if starts.get(stage, 0) > latest:
            return f"it requires the first step of stage {stage} at block {space.locations[latest][1]} or before"
    return None
