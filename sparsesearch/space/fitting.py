"""Resolve a search space for a backbone: its locations and the methods that the backbone supports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sparsesearch.errors import ScheduleError, SpaceError
from sparsesearch.schedule import Phase, ResolvedStep, check_step, last_attention, num_layers
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.schedule.methods import FastSlow, Merge, Prune, Reducer, Scorer, fast_path_macs
from sparsesearch.space.shape import Location, Method
from sparsesearch.space.stage_locations import StageLocations

if TYPE_CHECKING:
    from sparsesearch.space.definition import SearchSpace


StageBlocks = dict[int, tuple[tuple[int, ...], int | None]]


def fitted(space: SearchSpace, geometry: BackboneGeometry) -> dict[str, Any]:
    """The fields of a space that change when it is resolved for a backbone.

    Raises:
        SpaceError: The space does not fit the backbone; the message says how to fix it.
    """
    stages = _stage_blocks(space, geometry)
    locations = [(stage, block) for stage, (blocks, _) in stages.items() for block in blocks]
    if max(1, space.min_predictors) > len(locations):
        raise SpaceError(
            f"the space requires at least {space.min_predictors} predictors, but has {len(locations)} blocks for them; "
            "lower min_predictors"
        )
    judged = [(method, _why_not(space, method, stages, geometry)) for method in _wanted(space, geometry)]
    methods = [method for method, reason in judged if reason is None]
    if not methods:
        raise SpaceError(f"the space leaves nothing to search on {geometry.name}: {judged[0][1]}")
    usable = {location for location in locations if any(refusal(m, location, geometry) is None for m in methods)}
    kept = {
        stage: (tuple(b for b in blocks if (stage, b) in usable), latest) for stage, (blocks, latest) in stages.items()
    }
    for stage, (blocks, latest) in kept.items():
        if latest is not None and not any(block <= latest for block in blocks):
            raise SpaceError(
                f"the first step of stage {stage} of {geometry.name} must be at block {latest} or before, but its "
                f"first possible block is {blocks[0] if blocks else 'none'}; raise latest or lower earliest"
            )
    num_locations = len(usable)
    if max(1, space.min_predictors) > num_locations:
        raise SpaceError(
            f"the space requires at least {space.min_predictors} predictors, but has {num_locations} blocks for them; "
            "lower min_predictors"
        )
    update: dict[str, Any] = {
        "methods": tuple(methods),
        "min_predictors": max(1, space.min_predictors),
        "max_predictors": min(space.max_predictors, num_locations),
        "merge_after_prune": space.merge_after_prune and not isinstance(methods[0].reducer, FastSlow),
    }
    if len(geometry.stages) == 1:
        blocks, latest = kept[0]
        entry = None if space.stages is None else space.stages[0]
        low, high = space.ratio_limits(0)
        earliest = space.earliest if entry is None else entry.earliest
        limits = {"min_keep_ratio": low, "max_keep_ratio": high}
        return update | limits | {"blocks": blocks, "stages": None, "earliest": earliest, "latest": latest}
    return update | {
        "blocks": (),
        "earliest": None,
        "latest": None,
        "stages": tuple(
            entry.model_copy(update={"blocks": kept[entry.stage][0]})
            for entry in _entries(space, geometry)
            if kept[entry.stage][0]
        ),
    }


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
    stages = _stage_blocks(space, geometry)
    judged = ((method, _why_not(space, method, stages, geometry)) for method in _wanted(space, geometry))
    return [(method, reason) for method, reason in judged if reason is not None]


def _wanted(space: SearchSpace, geometry: BackboneGeometry) -> tuple[Method, ...]:
    """The methods of a space before they are checked against a backbone.

    Raises:
        SpaceError: The space has no valid method.
    """
    methods = space.methods or tuple(_products(space, geometry))
    if not methods:
        raise SpaceError(
            f"the space leaves nothing to search on {geometry.name}: fast_slow selects positions before a block; "
            "add before_block to phases"
        )
    return methods


def _why_not(space: SearchSpace, method: Method, stages: StageBlocks, geometry: BackboneGeometry) -> str | None:
    """Why a method cannot be used in a space; None if it can."""
    reasons = {
        (stage, block): refusal(method, (stage, block), geometry)
        for stage, (blocks, _) in stages.items()
        for block in blocks
    }
    num_possible = sum(reason is None for reason in reasons.values())
    if space.methods_per == "location":
        is_useful = num_possible > 0
    else:
        starts = [
            [reasons[stage, block] is None for block in blocks if block <= latest]
            for stage, (blocks, latest) in stages.items()
            if latest is not None
        ]
        is_useful = num_possible >= max(1, space.min_predictors) and all(any(here) for here in starts if here)
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
    """One entry per stage that may be sparse, in order of stages."""
    if space.stages is not None:
        return tuple(sorted(space.stages, key=lambda entry: entry.stage))
    deepest = geometry.deepest_stage
    return (StageLocations(stage=deepest, blocks=space.blocks, earliest=space.earliest, latest=space.latest),)


def _stage_blocks(space: SearchSpace, geometry: BackboneGeometry) -> StageBlocks:
    """Candidate blocks of each stage that may be sparse, and the last block at which its first step may be."""
    found = {}
    for entry in _entries(space, geometry):
        if entry.stage >= len(geometry.stages):
            raise SpaceError(
                f"the space names stage {entry.stage}, but {geometry.name} has stages 0 to {len(geometry.stages) - 1}"
            )
        found[entry.stage] = (_blocks(entry, geometry.stages[entry.stage], geometry), entry.latest)
    return found


def _blocks(entry: StageLocations, stage: StageGeometry, geometry: BackboneGeometry) -> tuple[int, ...]:
    first = 1 if entry.stage == 0 else 0
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
