"""The schedules that papers set by hand, for any backbone and any rate."""

from __future__ import annotations

from sparsesearch.errors import ScheduleError
from sparsesearch.geometry import BackboneGeometry
from sparsesearch.methods import FastSlow, Prune
from sparsesearch.schedule import Schedule, Step


def paper_schedule(geometry: BackboneGeometry, rho: float) -> Schedule:
    """DynamicViT's schedule, with the counts that its published code keeps.

    Isotropic backbones prune to rho, rho^2, rho^3 of the tokens before blocks L/4, L/2 and 3L/4. Hierarchical ones
    have three predictors early in their deepest stage, the third of published models, with rho, rho - 0.2 and
    rho - 0.4 of the positions on the slow path. Counts are truncated as the code does it: at rho 0.7 the second of 196
    is 97, not 98.

    Args:
        geometry: The backbone.
        rho: The rate, in (0, 1] and above 0.4 for hierarchical backbones.

    Raises:
        ScheduleError: The rate leaves nothing, or the backbone is too shallow.

    Source: DynamicViT (arXiv:2106.02034), section 4.1; Dynamic Spatial Sparsification (arXiv:2207.01580), section 4.1.
    """
    if not 0 < rho <= 1:
        raise ScheduleError(f"a rate of {rho:g} is none; give one above 0 and at most 1, for example 0.7")
    is_isotropic = len(geometry.stages) == 1
    index = max(range(len(geometry.stages)), key=lambda number: geometry.stages[number].depth)
    stage = geometry.stages[index]
    if is_isotropic:
        if stage.depth < 4:
            raise ScheduleError(f"{geometry.name} has {stage.depth} blocks; the papers' schedules need at least 4")
        blocks = [stage.depth * part // 4 for part in (1, 2, 3)]
        ratios = [rho, rho**2, rho**3]
    else:
        apart = max(1, stage.depth // 9)
        blocks = [apart * number for number in (1, 2, 3)]
        if blocks[-1] >= stage.depth:
            raise ScheduleError(
                f"stage {index} of {geometry.name} has {stage.depth} blocks; the papers' schedules need at least 4"
            )
        ratios = [rho, rho - 0.2, rho - 0.4]
    counts = [int(stage.num_tokens * ratio) for ratio in ratios]
    if min(counts) < 1:
        raise ScheduleError(f"a rate of {rho:g} would leave {counts} tokens of {geometry.name}; give a higher one")
    reducer = Prune() if is_isotropic else FastSlow()
    return Schedule(
        steps=tuple(
            Step(stage=index, block=block, keep_ratio=count / stage.num_tokens, reducer=reducer)
            for block, count in zip(blocks, counts, strict=True)
        )
    )
