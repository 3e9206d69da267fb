"""Select the schedules that a profile measures, so that a few dozen predict all others.

- *grid*: one step before the first block, so that every block runs on the same count. The counts are multiples of the
  tile sizes of the hardware, and one token more than each of them, where latency may jump.
- *chain*: several steps that drop a single token each, at large and small counts, for the cost of a step itself.
- *whole*: random schedules over locations, counts and methods, half of their counts on tile boundaries.
- *part*: the feed-forward networks of all blocks alone, to separate them from attention.
- *held out*: random schedules that are never used in a fit.

They are ordered so that every prefix of the list contains some of each: a time limit makes a profile coarser, not
invalid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sparsesearch.cost.latency_model import reducer_key, scorer_key
from sparsesearch.errors import ScheduleError
from sparsesearch.latency.profile.document import Role
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.schedule.methods import FastSlow, Merge, NormScorer, Prune, Reducer
from sparsesearch.space.shape import Method

NUM_WHOLES, NUM_HELD_OUT = 24, 12
_MAX_TILES = 14
_PARTS = 6
_CHAIN = 4
_MAX_STEPS = 4
_MIN_RATIO, _MAX_RATIO = 0.08, 0.95
_CARRIER = NormScorer()
"""Its cost is negligible, so that a grid measures blocks."""


class Planned(NamedTuple):
    """A planned measurement.

    Attributes:
        role: Purpose of the measurement.
        schedule: A schedule; the dense one for a part.
        num_tokens: Number of patch tokens of a part.
    """

    role: Role
    schedule: Schedule
    num_tokens: int | None = None


def profiled_stages(geometry: BackboneGeometry) -> tuple[int, ...]:
    """The only stage of an isotropic backbone, or the deepest stage of a hierarchical one."""
    return (geometry.deepest_stage,)


def design(
    geometry: BackboneGeometry,
    methods: Sequence[Method],
    *,
    stages: Sequence[int] | None = None,
    num_wholes: int = NUM_WHOLES,
    num_held_out: int = NUM_HELD_OUT,
    seed: int = 0,
) -> list[Planned]:
    """Plan the measurements, the most informative first.

    Args:
        geometry: Geometry of the backbone.
        methods: Methods of the schedules to be predicted.
        stages: Stages of their steps; `profiled_stages` if not given.
        num_wholes: Random schedules to fit on, for up to three methods; more methods get more.
        num_held_out: Random schedules to hold out.
        seed: Seed of the random schedules.

    Raises:
        ScheduleError: No method is possible in the stages.
    """
    chosen_stages = tuple(profiled_stages(geometry) if stages is None else stages)
    able = {index: _possible(geometry.stages[index], methods) for index in chosen_stages}
    able = {index: found for index, found in able.items() if found}
    if not able:
        raise ScheduleError(f"none of the methods is possible with {geometry.name}; choose others")
    rng = np.random.default_rng(seed)
    grid, chains = [], []
    for index, found in able.items():
        grid += _grid(index, geometry.stages[index], found)
        chains += _chains(geometry, index, found)
    num_methods = sum(map(len, able.values()))
    drawn = _draw_all(geometry, able, rng=rng, count=max(num_wholes, 8 * num_methods) + num_held_out, taken=grid)
    wholes, held_out = drawn[num_held_out:], drawn[:num_held_out]
    parts = [
        Planned("part", Schedule(), count)
        for index in able
        if geometry.stages[index].mixer == "attention"
        for count in _spread(tile_counts(geometry.stages[index]), _PARTS)
    ]
    grid_in_order = [grid[i] for i in _coarse_to_fine(len(grid))]
    planned = (
        [Planned("grid", one) for one in grid_in_order],
        [Planned("chain", one) for one in chains],
        [Planned("whole", one) for one in wholes],
        parts,
        [Planned("held_out", one) for one in held_out],
    )
    keyed = [((i + 0.5) / len(group), rank, one) for rank, group in enumerate(planned) for i, one in enumerate(group)]
    return [one for _, _, one in sorted(keyed, key=lambda entry: entry[:2])]


def tile_counts(stage: StageGeometry) -> list[int]:
    """Counts of patch tokens at the end of hardware tiles and at the start of the next ones, in increasing order.

    Prefix tokens are included in the tiles of stages with attention.
    """
    prefix = stage.num_prefix_tokens if stage.mixer == "attention" else 0
    total = stage.num_tokens + prefix
    width = 8
    while total // width > _MAX_TILES:
        width *= 2
    found = {
        tokens - prefix + offset
        for tokens in range(width, total + 1, width)
        for offset in (0, 1)
        if 1 <= tokens - prefix + offset < stage.num_tokens
    }
    return sorted(found | {stage.num_tokens - 1})


def _possible(stage: StageGeometry, methods: Sequence[Method]) -> list[Method]:
    """The methods that are possible in a stage."""
    return [one for one in methods if isinstance(one.reducer, FastSlow) == (stage.mixer != "attention")]


def _grid(index: int, stage: StageGeometry, methods: Sequence[Method]) -> list[Schedule]:
    reducers: list[Reducer] = [Prune()]
    if stage.mixer != "attention":
        reducers = list(dict.fromkeys(one.reducer for one in methods))
    return [
        Schedule(
            steps=(Step(stage=index, block=0, keep_ratio=count / stage.num_tokens, reducer=reducer, scorer=_CARRIER),)
        )
        for reducer in reducers
        for count in tile_counts(stage)
    ]


def _chains(geometry: BackboneGeometry, index: int, methods: Sequence[Method]) -> list[Schedule]:
    """For each combination of reducer and scorer, steps that drop single tokens, at large and at small counts."""
    stage = geometry.stages[index]
    kinds = {(reducer_key(one.reducer), scorer_key(one.scorer), one.phase): one for one in methods}
    num = max(1, min(_CHAIN, stage.depth - 1))
    blocks = sorted({1 + i * (stage.depth - 1) // num for i in range(num)} & set(range(stage.depth))) or [0]
    found = []
    for method in kinds.values():
        for start in (stage.num_tokens, max(len(blocks) + 2, stage.num_tokens // 3)):
            steps = []
            count = start
            if start < stage.num_tokens and stage.mixer == "attention":
                steps = [_step(stage, index, 0, start, Method(reducer=Prune(), scorer=_CARRIER))]
            for block in blocks[: count - 1]:
                count -= 1
                steps.append(_step(stage, index, block, count, method))
            if _runs(made := Schedule(steps=tuple(steps)), geometry):
                found.append(made)
    return found


def _draw_all(
    geometry: BackboneGeometry,
    able: dict[int, list[Method]],
    *,
    rng: np.random.Generator,
    count: int,
    taken: Sequence[Schedule],
) -> list[Schedule]:
    """Distinct random schedules; each method is included in turn."""
    keys = {one.key(geometry) for one in taken}
    turns = [(index, method) for index, found in able.items() for method in found]
    drawn: list[Schedule] = []
    for attempt in range(30 * count):
        if len(drawn) == count:
            break
        made = _draw(geometry, able, rng=rng, first=turns[attempt % len(turns)])
        if made is not None and _runs(made, geometry) and (key := made.key(geometry)) not in keys:
            keys.add(key)
            drawn.append(made)
    return drawn


def _draw(
    geometry: BackboneGeometry, able: dict[int, list[Method]], *, rng: np.random.Generator, first: tuple[int, Method]
) -> Schedule | None:
    """A random schedule that includes the given method."""
    steps: list[Step] = []
    for index, methods in able.items():
        stage = geometry.stages[index]
        if index != first[0] and rng.random() < 0.5:
            continue
        start = 1 if stage.depth > 1 else 0
        num = int(rng.integers(1, min(_MAX_STEPS, stage.depth - start) + 1))
        blocks = sorted(int(block) for block in rng.choice(range(start, stage.depth), size=num, replace=False))
        chosen = [methods[int(rng.integers(len(methods)))] for _ in blocks]
        if index == first[0]:
            chosen[int(rng.integers(num))] = first[1]
        weights = np.cumsum(rng.uniform(0.05, 1.0, size=num))
        drop = math.log(float(rng.uniform(_MIN_RATIO, _MAX_RATIO))) / weights[-1]
        tiles = tile_counts(stage)
        before = stage.num_tokens
        for block, method, weight in zip(blocks, chosen, weights, strict=True):
            count = round(stage.num_tokens * math.exp(drop * float(weight)))
            if rng.random() < 0.5:
                count = min(tiles, key=lambda tile: abs(tile - count))
            count = min(count, before - 1)
            if isinstance(method.reducer, Merge):
                count = max(count, (before + 1) // 2)
            if not 1 <= count < before:
                return None
            steps.append(_step(stage, index, block, count, method))
            before = count
    return Schedule(steps=tuple(steps))


def _step(stage: StageGeometry, index: int, block: int, count: int, method: Method) -> Step:
    return Step(
        stage=index,
        block=block,
        phase=method.phase,
        keep_ratio=count / stage.num_tokens,
        reducer=method.reducer,
        scorer=method.scorer,
    )


def _runs(schedule: Schedule, geometry: BackboneGeometry) -> bool:
    """Whether a schedule is valid for the geometry of the backbone."""
    try:
        schedule.resolve(geometry)
    except ScheduleError:
        return False
    return True


def _spread(values: Sequence[int], count: int) -> list[int]:
    """Select `count` evenly spaced values."""
    positions = np.linspace(0, len(values) - 1, num=min(count, len(values)))
    return [values[round(float(position))] for position in positions]


def _coarse_to_fine(count: int) -> list[int]:
    """0 to `count - 1` in bit-reversed order: coarse spacing first."""
    bits = max(1, (count - 1).bit_length())
    order = [int(f"{number:0{bits}b}"[::-1], 2) for number in range(1 << bits)]
    return [position for position in order if position < count]
