"""The hand-crafted schedules, solved to a budget by the same solver as proposals.

They are part of every study, so that searched schedules are compared at equal cost. Isotropic backbones: rho, rho^2,
rho^3 at a quarter, half and three quarters of the depth (DynamicViT, arXiv:2106.02034, section 4.1: blocks 3, 6, 9 of
12). Hierarchical ones: rho, rho - 0.2, rho - 0.4 of the positions on the slow path, early in the deepest stage (Dynamic
Spatial Sparsification, arXiv:2207.01580, section 4.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sparsesearch.budget.lattice import CountLattice
from sparsesearch.budget.solve import RatioRule, fit_to_budget, least_cost
from sparsesearch.papers.schedules import paper_blocks, progressive_ratios
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import FastSlow
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.shape import Method, Shape
from sparsesearch.study.protocols import Price

NUM_BUDGETS = 5


@dataclass(frozen=True, kw_only=True)
class HandcraftedBaseline:
    """Schedules parameterised by one rate rho.

    Attributes:
        label: Its name, for example `rho at 3,6,9`.
        shape: Locations and methods of its steps.
        rule: Keep ratios as a function of rho; None for its powers.
    """

    label: str
    shape: Shape
    rule: RatioRule | None = None


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A hand-crafted baseline at one budget.

    Attributes:
        label: Its name, for example `rho at 3,6,9`.
        limit: The budget in the unit of the price.
        schedule: The largest schedule of the baseline within the budget; None if it cannot use this budget.
        least: Cost of the baseline at its smallest counts; if above the budget, the reason for having no schedule.
    """

    label: str
    limit: float
    schedule: Schedule | None
    least: float


def handcrafted_baselines(
    geometry: BackboneGeometry, *, method: Method | None = None
) -> tuple[HandcraftedBaseline, ...]:
    """The hand-crafted baselines of a backbone: steps at the papers' blocks, and one block earlier each.

    With fewer than four blocks, coinciding steps are merged, and steps outside the stage are left out.

    Args:
        geometry: The backbone.
        method: Method of every step; None for pruning (fast and slow paths on hierarchical backbones) with the
            predictor of DynamicViT.
    """
    is_isotropic = geometry.stages[0].mixer == "attention"
    if method is None:
        method = Method() if is_isotropic else Method(reducer=FastSlow())
    stage = geometry.deepest_stage
    depth = geometry.stages[stage].depth
    families = []
    for earlier in (0, 1):
        blocks = sorted({block - earlier for block in paper_blocks(geometry)})
        blocks = [block for block in blocks if 0 <= block < depth and method.is_possible_at((stage, block))]
        if not blocks:
            continue
        named = ",".join(str(block) for block in blocks)
        families.append(
            HandcraftedBaseline(
                label=f"rho at {named}" if is_isotropic else f"rho at {named} of stage {stage}",
                shape=Shape.at(blocks, stage=stage, method=method),
                rule=None if is_isotropic else _Progressive(len(blocks)),
            )
        )
    return tuple(families)


@dataclass(frozen=True)
class _Progressive:
    """Fractions of slow positions that fall by 0.2 from step to step (protocol `RatioRule`)."""

    num: int

    def __call__(self, scale: float, /) -> list[float]:
        return progressive_ratios(scale)[: self.num]


def baselines_inside(geometry: BackboneGeometry, space: ResolvedSpace) -> tuple[HandcraftedBaseline, ...]:
    """The hand-crafted baselines, by the first method of a space, that have no step where the space has none."""
    return tuple(
        family
        for family in handcrafted_baselines(geometry, method=space.methods[0])
        if {(step.stage, step.block) for step in family.shape.steps} <= set(space.locations)
    )


def baseline_schedules(
    geometry: BackboneGeometry,
    space: ResolvedSpace,
    *,
    low: float | None,
    high: float,
    price: Price | None = None,
    families: Sequence[HandcraftedBaseline] | None = None,
) -> list[Baseline]:
    """The hand-crafted baselines at the budget, or at `NUM_BUDGETS` evenly spaced budgets over a range.

    Args:
        geometry: The backbone.
        space: Defines the limits of keep ratios and, by its first method, the method. Baselines with a step where the
            space has none are left out: weights that schedules share have no predictor there.
        low: Lower end of the range in the unit of the price; None for a single budget.
        high: The budget, or the upper end of the range.
        price: The cost function; exact multiply-adds if None.
        families: The baselines; None for those of `baselines_inside`.

    Returns:
        One entry per baseline and budget, including baselines that cannot meet a budget; cheapest budget first.
    """
    limits = [high]
    if low is not None:
        last = NUM_BUDGETS - 1
        in_macs = price is None or price.unit == "macs"
        spaced = [low + (high - low) * i / last for i in range(NUM_BUDGETS)]
        limits = [math.floor(limit) if in_macs else limit for limit in spaced]
    families = baselines_inside(geometry, space) if families is None else families
    families = [family for family in families if CountLattice(geometry, space, shape=family.shape, price=price).exists]
    return [
        Baseline(
            label=family.label,
            limit=limit,
            schedule=fit_to_budget(geometry, space, shape=family.shape, limit=limit, price=price, rule=family.rule),
            least=least_cost(geometry, space, shape=family.shape, price=price),
        )
        for limit in limits
        for family in families
    ]
