"""The hand-crafted schedules that are part of a study, by its strategy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from sparsesearch.budget.baselines import (
    Baseline,
    HandcraftedBaseline,
    baseline_schedules,
    baselines_inside,
    handcrafted_baselines,
)
from sparsesearch.budget.price import study_price
from sparsesearch.budget.solve import check_budget
from sparsesearch.budget.untrained_baselines import untrained_baselines
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.study.protocols import Price
from sparsesearch.study.spec import Budget, Strategy, StudySpec


def baseline_families(
    strategy: Strategy, geometry: BackboneGeometry, space: ResolvedSpace
) -> tuple[tuple[HandcraftedBaseline, ...], tuple[str, ...]]:
    """Return the baselines of a strategy, and the labels of those that a space leaves out.

    Without training, methods need no weights of their own, so that baselines need not be inside the space.
    """
    if strategy == "training-free":
        return untrained_baselines(geometry), ()
    inside = baselines_inside(geometry, space)
    known = handcrafted_baselines(geometry, method=space.methods[0])
    return inside, tuple(family.label for family in known if family not in inside)


def study_baselines(spec: StudySpec) -> Sequence[Baseline]:
    """Return the hand-crafted schedules of a resolved study, at its budgets; some cannot meet a low budget."""
    resolved = spec.resolved
    if not spec.baselines or resolved is None:
        return ()
    strategy = spec.fidelity.strategy
    return _solved(strategy, resolved.geometry, resolved.space, spec.budget, study_price(spec))


def num_baselines(spec: StudySpec) -> int:
    """Return the number of distinct hand-crafted schedules of a study; 0 while it is not resolved."""
    if spec.resolved is None:
        return 0
    geometry = spec.resolved.geometry
    found = study_baselines(spec)
    return len({baseline.schedule.key(geometry) for baseline in found if baseline.schedule is not None})


@lru_cache(maxsize=64)
def _solved(
    strategy: Strategy, geometry: BackboneGeometry, space: ResolvedSpace, budget: Budget, price: Price | None
) -> tuple[Baseline, ...]:
    low, high = check_budget(geometry, space, budget=budget, price=price)
    families, _ = baseline_families(strategy, geometry, space)
    return tuple(baseline_schedules(geometry, space, low=low, high=high, price=price, families=families))
