"""The schedules that papers publish, for any backbone and any rate."""

from __future__ import annotations

from sparsesearch.errors import ScheduleError
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import FastSlow, Prune


def paper_blocks(geometry: BackboneGeometry) -> list[int]:
    """Blocks of the papers' predictors in the deepest stage; with fewer than four blocks, some are out of range.

    Source: as for `paper_schedule`.
    """
    depth = geometry.stages[geometry.deepest_stage].depth
    if geometry.stages[0].mixer == "attention":
        return [depth * part // 4 for part in (1, 2, 3)]
    return [max(1, depth // 9) * number for number in (1, 2, 3)]


def progressive_ratios(rho: float) -> list[float]:
    """The papers' fractions of slow positions: each predictor keeps 0.2 less than the one before.

    Source: Dynamic Spatial Sparsification (arXiv:2207.01580), section 4.1.
    """
    return [rho, rho - 0.2, rho - 0.4]


def paper_schedule(geometry: BackboneGeometry, rho: float) -> Schedule:
    """DynamicViT's schedule, with the token counts of its published code.

    Isotropic backbones prune to rho, rho^2, rho^3 of the tokens before blocks L/4, L/2 and 3L/4. Hierarchical ones
    have three predictors early in their deepest stage (the third of the published models), with rho, rho - 0.2 and
    rho - 0.4 of the positions on the slow path. Counts are truncated as in that code: at rho 0.7, the second
    count of 196 tokens is 97, not 98.

    Args:
        geometry: The backbone.
        rho: The keep rate, in (0, 1] and above 0.4 for hierarchical backbones.

    Raises:
        ScheduleError: The rate leaves no tokens, or the backbone is too shallow.

    Source: DynamicViT (arXiv:2106.02034), section 4.1; Dynamic Spatial Sparsification (arXiv:2207.01580), section 4.1.
    """
    if not 0 < rho <= 1:
        raise ScheduleError(f"invalid rate {rho:g}; give a value above 0 and at most 1, for example 0.7")
    is_isotropic = geometry.stages[0].mixer == "attention"
    index = geometry.deepest_stage
    stage = geometry.stages[index]
    if stage.depth < 4:
        where = geometry.name if is_isotropic else f"stage {index} of {geometry.name}"
        raise ScheduleError(f"{where} has {stage.depth} blocks; the papers' schedules need at least 4")
    blocks = paper_blocks(geometry)
    ratios = [rho, rho**2, rho**3] if is_isotropic else progressive_ratios(rho)
    counts = [int(stage.num_tokens * ratio) for ratio in ratios]
    if min(counts) < 1:
        raise ScheduleError(f"a rate of {rho:g} leaves {counts} tokens of {geometry.name}; give a higher rate")
    reducer = Prune() if is_isotropic else FastSlow()
    return Schedule(
        steps=tuple(
            Step(stage=index, block=block, keep_ratio=count / stage.num_tokens, reducer=reducer)
            for block, count in zip(blocks, counts, strict=True)
        )
    )
