"""A search space laid over a backbone: locations and methods spelled out, what cannot be done left out."""

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


Places = dict[int, tuple[tuple[int, ...], int | None]]


def fitted(space: SearchSpace, geometry: BackboneGeometry) -> dict[str, Any]:
    """What changes of a space when it is spelled out for a backbone, field by field.

    Raises:
        SpaceError: The space does not fit the backbone; the message says how to mend it.
    """
    places = _places(space, geometry)
    locations = [(stage, block) for stage, (blocks, _) in places.items() for block in blocks]
    if max(1, space.min_predictors) > len(locations):
        raise SpaceError(
            f"the space wants at least {space.min_predictors} predictors, but has {len(locations)} blocks to put them"
        )
    judged = [(method, _why_not(space, method, places, geometry)) for method in _wanted(space, geometry)]
    methods = [method for method, reason in judged if reason is None]
    if not methods:
        raise SpaceError(f"the space leaves nothing to search on {geometry.name}: {judged[0][1]}")
    usable = {place for place in locations if any(refusal(m, place, geometry) is None for m in methods)}
    kept = {
        stage: (tuple(b for b in blocks if (stage, b) in usable), latest) for stage, (blocks, latest) in places.items()
    }
    for stage, (blocks, latest) in kept.items():
        if latest is not None and not any(block <= latest for block in blocks):
            raise SpaceError(
                f"the first step of stage {stage} of {geometry.name} shall be at block {latest} or before, but its "
                f"first possible block is {blocks[0] if blocks else 'none'}; raise latest or lower earliest"
            )
    num_locations = len(usable)
    if max(1, space.min_predictors) > num_locations:
        raise SpaceError(
            f"the space wants at least {space.min_predictors} predictors, but has {num_locations} blocks to put them"
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
    """Why a method cannot be used at a location of a backbone; None if it can."""
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
                f"the {path} fast path of stage {stage_index} of {geometry.name} costs as much as the network that it "
                "replaces; use fast_path identity"
            )
    return None


def dropped_methods(space: SearchSpace, geometry: BackboneGeometry) -> list[tuple[Method, str]]:
    """The methods of a space, as written, that a backbone cannot do at any of its locations, and why."""
    places = _places(space, geometry)
    judged = ((method, _why_not(space, method, places, geometry)) for method in _wanted(space, geometry))
    return [(method, reason) for method, reason in judged if reason is not None]


def _wanted(space: SearchSpace, geometry: BackboneGeometry) -> tuple[Method, ...]:
    """The methods of a space as written.

    Raises:
        SpaceError: There are none.
    """
    methods = space.methods or tuple(_products(space, geometry))
    if not methods:
        raise SpaceError(
            f"the space leaves nothing to search on {geometry.name}: fast_slow chooses positions in front of a block; "
            "add before_block to phases"
        )
    return methods


def _why_not(space: SearchSpace, method: Method, places: Places, geometry: BackboneGeometry) -> str | None:
    """Why a method is of no use in a space; None if it is."""
    reasons = {
        (stage, block): refusal(method, (stage, block), geometry)
        for stage, (blocks, _) in places.items()
        for block in blocks
    }
    num_possible = sum(reason is None for reason in reasons.values())
    if space.methods_per == "location":
        is_useful = num_possible > 0
    else:
        starts = [
            [reasons[stage, block] is None for block in blocks if block <= latest]
            for stage, (blocks, latest) in places.items()
            if latest is not None
        ]
        is_useful = num_possible >= max(1, space.min_predictors) and all(any(here) for here in starts if here)
    return None if is_useful else next(reason for reason in reasons.values() if reason is not None)


def _products(space: SearchSpace, geometry: BackboneGeometry) -> Iterator[Method]:
    """Every reducer with every scorer in every phase, what contradicts itself left out, each once."""
    usual: Reducer = Prune() if geometry.stages[0].mixer == "attention" else FastSlow()
    seen = set()
    for phase in space.phases:
        for reducer in space.reducers or (usual,):
            for scorer in space.scorers:
                method = _method(reducer, scorer, phase)
                if method is not None and method not in seen:
                    seen.add(method)
                    yield method


def _method(reducer: Reducer, scorer: Scorer, phase: Phase) -> Method | None:
    try:
        return Method(reducer=reducer, scorer=None if isinstance(reducer, Merge) else scorer, phase=phase)
    except ValidationError:
        return None  # fast_slow between attention and feed-forward network


def _entries(space: SearchSpace, geometry: BackboneGeometry) -> tuple[StageLocations, ...]:
    """One entry a stage that may be sparse, in order of stages."""
    if space.stages is not None:
        return tuple(sorted(space.stages, key=lambda entry: entry.stage))
    deepest = geometry.deepest_stage
    return (StageLocations(stage=deepest, blocks=space.blocks, earliest=space.earliest, latest=space.latest),)


def _places(space: SearchSpace, geometry: BackboneGeometry) -> Places:
    """Blocks of each stage that may be sparse, and the last one at which it may start."""
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
