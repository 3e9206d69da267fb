"""Random schedules for supernet training, and predictors whose input size is the same in all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sparsesearch.schedule import Schedule, num_kept
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import FastSlow, Merge, Scorer, SpotScorer
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.sampling import draw_shape
from sparsesearch.space.shape import Shape

LOWEST_RATIO = 0.04
_MINIMAL_RATIOS = (20 / 64, 5 / 64)
_WINDOWS_PER_DEPTH = 4


def random_schedule(space: ResolvedSpace, geometry: BackboneGeometry, *, rng: np.random.Generator) -> Schedule:
    """A random schedule of a space: a random shape with ratios log-uniform between the limits of each stage.

    Args:
        space: The space.
        geometry: The backbone.
        rng: Source of randomness.
    """
    shape = draw_shape(space, rng=rng)
    ratios = []
    for step in shape.steps:
        low, high = _limits(space, step.stage)
        ratios.append(math.exp(rng.uniform(math.log(low), math.log(high))))
    return _schedule(shape, ratios, geometry)


def minimal_schedule(space: ResolvedSpace, geometry: BackboneGeometry, *, rng: np.random.Generator) -> Schedule:
    """A schedule near the lower end of a space: the maximum number of steps, a third to a tenth of tokens left.

    Args:
        space: As in `random_schedule`.
        geometry: The backbone.
        rng: Source of randomness.
    """
    shape = draw_shape(space.model_copy(update={"min_predictors": space.max_predictors}), rng=rng)
    ratios: list[float] = []
    for stage in dict.fromkeys(step.stage for step in shape.steps):
        num = sum(step.stage == stage for step in shape.steps)
        first, last = _MINIMAL_RATIOS
        low, high = _limits(space, stage)
        falling = np.geomspace(min(first, last * 2 ** (num - 1)), last, num)
        ratios += [float(ratio) for ratio in falling.clip(low, high)]
    return _schedule(shape, ratios, geometry)


def with_fixed_windows(space: ResolvedSpace, geometry: BackboneGeometry) -> ResolvedSpace:
    """The space with SPOT scorers that read a fixed number of layers, wherever the previous step is.

    A predictor that is shared by many schedules has a fixed input size. SPOT's own rule, the layers since the last
    step, is replaced by the last quarter of the depth; this is the same number of layers in SPOT's own configuration,
    steps at a quarter, half and three quarters of the depth (arXiv:2511.10488). If fewer layers precede a step, it
    reads those.

    Args:
        space: Any space.
        geometry: The backbone.
    """
    window = max(1, max(stage.depth for stage in geometry.stages) // _WINDOWS_PER_DEPTH)

    def fixed(scorer: Scorer) -> Scorer:
        if isinstance(scorer, SpotScorer) and scorer.layers == "since_last":
            return scorer.model_copy(update={"layers": window})
        return scorer

    methods = tuple(
        method if method.scorer is None else method.model_copy(update={"scorer": fixed(method.scorer)})
        for method in space.methods
    )
    return space.model_copy(update={"methods": tuple(dict.fromkeys(methods))})


def _limits(space: ResolvedSpace, stage: int) -> tuple[float, float]:
    low, high = space.ratio_limits(stage)
    return min(max(low, LOWEST_RATIO), high), high


def _schedule(shape: Shape, ratios: Sequence[float], geometry: BackboneGeometry) -> Schedule:
    """The schedule of a shape with the closest valid ratios: falling, and at most half of the tokens merged."""
    made: list[float] = []
    for stage in dict.fromkeys(step.stage for step in shape.steps):
        steps = [step for step in shape.steps if step.stage == stage]
        requested = [ratio for step, ratio in zip(shape.steps, ratios, strict=True) if step.stage == stage]
        if shape.monotone:
            requested.sort(reverse=True)
        initial = alive = geometry.stages[stage].num_tokens
        for step, ratio in zip(steps, requested, strict=True):
            count = num_kept(initial, ratio)
            if isinstance(step.reducer, Merge):
                count = max(count, (alive + 1) // 2)
            if not isinstance(step.reducer, FastSlow):
                count = alive = min(alive, count)
            made.append(count / initial)
    return shape.schedule(made)
