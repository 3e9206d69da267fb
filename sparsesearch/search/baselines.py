"""The schedules people write by hand: rho, rho^2, rho^3 at a quarter, half and three quarters of the depth.

They take part in every study, with rho solved to the budget by the same solver, so that a searched schedule is
compared at equal cost. Source: DynamicViT, arXiv:2106.02034, section 4.1 (blocks 3, 6, 9 of 12).
"""

from __future__ import annotations

from dataclasses import dataclass

from sparsesearch.cost.analytic import isotropic_stage
from sparsesearch.geometry import BackboneGeometry
from sparsesearch.methods import Scorer
from sparsesearch.schedule import Schedule
from sparsesearch.search.proposals import fit_to_budget, least_cost
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.shape import Method, Shape

NUM_BUDGETS = 5


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A hand family at one budget.

    Attributes:
        label: Its name, for example `rho at 3,6,9`.
        budget_macs: The budget in multiply-adds.
        schedule: The family's largest schedule under the budget, or None if it cannot use this budget.
        min_macs: Multiply-adds of the family at its smallest counts; above the budget, this is why.
    """

    label: str
    budget_macs: int
    schedule: Schedule | None
    min_macs: int


def hand_shapes(geometry: BackboneGeometry, *, scorer: Scorer | None = None) -> tuple[Shape, ...]:
    """The families for a depth: steps at L/4, L/2, 3L/4 and at one block earlier each, equal weights.

    On backbones of fewer than four blocks, steps that coincide are merged and steps before block 0 are left out.

    Args:
        geometry: An isotropic backbone.
        scorer: What ranks the tokens, None for DynamicViT's predictor.
    """
    depth = isotropic_stage(geometry).depth
    shapes: list[Shape] = []
    for earlier in (0, 1):
        blocks = sorted({quarter * depth // 4 - earlier for quarter in (1, 2, 3)})
        blocks = [block for block in blocks if block >= 0]
        if blocks:
            shapes.append(Shape.at(blocks, method=Method(scorer=scorer)))
    return tuple(shapes)


def hand_baselines(
    geometry: BackboneGeometry, space: SearchSpace, *, low_macs: int | None, high_macs: int
) -> list[Baseline]:
    """The hand families at the budget, or at `NUM_BUDGETS` evenly spaced budgets over a range.

    Args:
        geometry: An isotropic backbone.
        space: Gives `min_keep_ratio` and, as its first one, the scorer; a family may lie outside the space otherwise.
        low_macs: Lower end of the range in multiply-adds, None for a single budget.
        high_macs: The budget, or the upper end of the range.

    Returns:
        One entry a family and budget, families that cannot reach a budget included, cheapest budget first.
    """
    budgets = [high_macs]
    if low_macs is not None:
        last = NUM_BUDGETS - 1
        budgets = [low_macs + (high_macs - low_macs) * i // last for i in range(NUM_BUDGETS)]
    return [
        Baseline(
            label=f"rho at {','.join(str(block) for block in shape.blocks)}",
            budget_macs=budget_macs,
            schedule=fit_to_budget(geometry, space=space, shape=shape, limit=budget_macs),
            min_macs=int(least_cost(geometry, space=space, shape=shape)),
        )
        for budget_macs in budgets
        for shape in hand_shapes(geometry, scorer=space.scorers[0])
    ]
