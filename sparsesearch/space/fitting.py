"""Resolve a search space for a backbone: its locations and the methods that the backbone supports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import ValidationError

from sparsesearch.errors import ScheduleError, SpaceError
from sparsesearch.schedule import Phase, ResolvedStep, check_step, last_attention, num_layers
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.schedule.methods import FastSlow, Merge, Prune, Reducer, Scorer, fast_path_macs
from sparsesearch.space.resolved import ResolvedSpace, StageLimits
from sparsesearch.space.shape import Location, Method
from sparsesearch.space.stage_locations import StageLocations

if TYPE_CHECKING:
    from sparsesearch.space.definition import SearchSpace


def resolve(space: SearchSpace, geometry: BackboneGeometry) -> ResolvedSpace:
    """Resolve a space for a backbone; see `SearchSpace.resolve`."""
    return supported(_candidates(space, geometry), geometry)


def supported(space: ResolvedSpace, geometry: BackboneGeometry) -> ResolvedSpace:
    """The part of a space that a backbone supports: without its other methods, and locations where no method is left.

    Args:
        space: A space whose methods were not checked.
        geometry: The backbone.

    Raises:
        SpaceError: Nothing is left to search; the message says how to fix it.
    """
    judged = [(method, _why_not(space, method, geometry)) for method in space.methods]
    methods = tuple(method for method, reason in judged if reason is None)
    if not methods:
        raise SpaceError(f"the space leaves nothing to search on {geometry.name}: {judged[0][1]}")
    locations = tuple(
        location for location in space.locations if any(refusal(m, location, geometry) is None for m in methods)
    )
    for limits in space.limits:
        blocks = [block for stage, block in locations if stage == limits.stage]
        if limits.latest is not None and not any(block <= limits.latest for block in blocks):
            raise SpaceError(
                f"the first step of stage {limits.stage} of {geometry.name} must be at block {limits.latest} or "
                f"before, but its first possible block is {blocks[0] if blocks else 'none'}; raise latest or lower "
                "earliest"
            )
    _check_count(space.min_predictors, len(locations))
    stages = {stage for stage, _ in locations}
    return _with_methods(space, methods).model_copy(
        update={
            "locations": locations,
            "max_predictors": min(space.max_predictors, len(locations)),
            "limits": tuple(limits for limits in space.limits if limits.stage in stages),
        }
    )


def read_explicit(space: SearchSpace) -> ResolvedSpace:
    """The resolved form of a space that names all its blocks and methods, without checking it against a backbone."""
    return _with_methods(_listed(space), space.methods)


def _listed(space: SearchSpace) -> ResolvedSpace:
    entries = space.stages or (StageLocations(stage=0, blocks=space.blocks, latest=space.latest),)
    return ResolvedSpace(
        locations=tuple((entry.stage, block) for entry in entries for block in entry.blocks),
        methods=space.methods,
        methods_per=space.methods_per,
        merge=space.merge if space.merge_after_prune else None,
        phases=space.phases,
        min_predictors=max(1, space.min_predictors),
        max_predictors=space.max_predictors,
        limits=tuple(
            StageLimits(stage=entry.stage, min_keep_ratio=low, max_keep_ratio=high, latest=entry.latest)
            for entry in entries
            for low, high in [space.ratio_limits(entry)]
        ),
        monotone=space.monotone,
    )


def _with_methods(space: ResolvedSpace, methods: tuple[Method, ...]) -> ResolvedSpace:
    """The space with its final methods, and what depends on whether they drop tokens."""
    drop = any(not isinstance(method.reducer, FastSlow) for method in methods)
    merge = None if isinstance(methods[0].reducer, FastSlow) else space.merge
    return space.model_copy(update={"methods": methods, "merge": merge, "monotone": space.monotone or drop})


def refusal(method: Method, location: Location, geometry: BackboneGeometry) -> str | None:
    """Why a method is not supported at a location of a backbone; None if it is."""
    stage_index, block = location
    stage = geometry.stages[stage_index]
    last = last_attention(block, method.phase)
    step = ResolvedStep(
        stage=stage_index,
        block=block,
        phase=method.phase,
        num_tokens=1,
        num_before=2,
        reducer=method.reducer,
        scorer=method.scorer,
        num_layers=num_layers(method.scorer, last=last, last_before=None) if last >= 0 else 0,
    )
    try:
        check_step(step, stage, geometry.name)
    except ScheduleError as error:
        return str(error)
    if isinstance(method.reducer, FastSlow):
        path = method.reducer.fast_path
        if fast_path_macs(path, dim=stage.dim) >= stage.mlp_macs:
            return (
                f"the {path} fast path of stage {stage_index} of {geometry.name} costs as much as the feed-forward "
                "network that it replaces; use fast_path identity"
            )
    return None


def dropped_methods(space: SearchSpace, geometry: BackboneGeometry) -> list[tuple[Method, str]]:
    """The methods of a space that a backbone supports at none of its locations, with the reason."""
    candidates = _candidates(space, geometry)
    judged = ((method, _why_not(candidates, method, geometry)) for method in candidates.methods)
    return [(method, reason) for method, reason in judged if reason is not None]


def _candidates(space: SearchSpace, geometry: BackboneGeometry) -> ResolvedSpace:
    """A space with all its blocks and methods, before they are checked against a backbone.

    Raises:
        SpaceError: The space names a block that the backbone does not have, or has too few, or no valid method.
    """
    entries = _entries(space, geometry)
    _check_count(space.min_predictors, sum(len(entry.blocks) for entry in entries))
    methods = space.methods or tuple(_products(space, geometry))
    if not methods:
        raise SpaceError(
            f"the space leaves nothing to search on {geometry.name}: fast_slow selects positions before a block; "
            "add before_block to phases"
        )
    return _listed(space.model_copy(update={"stages": entries, "methods": methods}))


def _check_count(min_predictors: int, num_locations: int) -> None:
    if max(1, min_predictors) > num_locations:
        raise SpaceError(
            f"the space requires at least {min_predictors} predictors, but has {num_locations} blocks for them; "
            "lower min_predictors"
        )


def _why_not(space: ResolvedSpace, method: Method, geometry: BackboneGeometry) -> str | None:
    """Why a method cannot be used in a space; None if it can."""
    reasons = {location: refusal(method, location, geometry) for location in space.locations}
    num_possible = sum(reason is None for reason in reasons.values())
    if space.methods_per == "location":
        is_useful = num_possible > 0
    else:
        starts = [
            [reason is None for (stage, block), reason in reasons.items() if stage == limits.stage and block <= latest]
            for limits in space.limits
            if (latest := limits.latest) is not None
        ]
        is_useful = num_possible >= space.min_predictors and all(any(here) for here in starts if here)
    return None if is_useful else next(reason for reason in reasons.values() if reason is not None)


def _products(space: SearchSpace, geometry: BackboneGeometry) -> Iterator[Method]:
    """Every valid combination of reducer, scorer and phase, without duplicates."""
    default: Reducer = Prune() if geometry.stages[0].mixer == "attention" else FastSlow()
    seen = set()
    for phase in space.phases:
        for reducer in space.reducers or (default,):
            for scorer in space.scorers:
                method = _method(reducer, scorer, phase)
                if method is not None and method not in seen:
                    seen.add(method)
                    yield method


def _method(reducer: Reducer, scorer: Scorer, phase: Phase) -> Method | None:
    try:
        return Method(reducer=reducer, scorer=None if isinstance(reducer, Merge) else scorer, phase=phase)
    except ValidationError:
        return None  # invalid: fast_slow between attention and feed-forward network


def _entries(space: SearchSpace, geometry: BackboneGeometry) -> tuple[StageLocations, ...]:
    """One entry with all its blocks per stage that may be sparse, in order of stages."""
    deepest = StageLocations(
        stage=geometry.deepest_stage, blocks=space.blocks, earliest=space.earliest, latest=space.latest
    )
    entries = (deepest,) if space.stages is None else sorted(space.stages, key=lambda entry: entry.stage)
    found = []
    for entry in entries:
        if entry.stage >= len(geometry.stages):
            raise SpaceError(
                f"the space names stage {entry.stage}, but {geometry.name} has stages 0 to {len(geometry.stages) - 1}"
            )
        blocks = _blocks(entry, geometry.stages[entry.stage], geometry)
        found.append(entry.model_copy(update={"blocks": blocks}))
    return tuple(found)


def _blocks(entry: StageLocations, stage: StageGeometry, geometry: BackboneGeometry) -> tuple[int, ...]:
    first = 1 if entry.stage == 0 and entry.earliest is None else 0
    blocks = tuple(sorted(entry.blocks)) or tuple(range(first, stage.depth))
    where = f" in stage {entry.stage}" if len(geometry.stages) > 1 else ""
    outside = [block for block in blocks if not 0 <= block < stage.depth]
    if outside:
        raise SpaceError(
            f"the space names block {outside[0]}, but {geometry.name} has blocks 0 to {stage.depth - 1}{where}"
        )
    blocks = tuple(block for block in blocks if entry.earliest is None or block >= entry.earliest)
    if not blocks and len(geometry.stages) > 1:
        raise SpaceError(f"the space leaves no block of stage {entry.stage} of {geometry.name}; lower earliest")
    return blocks
