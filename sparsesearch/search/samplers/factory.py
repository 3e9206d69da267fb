"""Make a sampler by name."""

from __future__ import annotations

from collections.abc import Sequence

from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.search.samplers.evolution import EvolutionProposer
from sparsesearch.search.samplers.gradients import GradientsProposer
from sparsesearch.search.samplers.proposer import Proposer
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.study.metric import VAL_TOP1, Metric
from sparsesearch.study.prior import Prior
from sparsesearch.study.protocols import Price
from sparsesearch.study.spec import SamplerName


def make_proposer(
    sampler: SamplerName,
    geometry: BackboneGeometry,
    space: ResolvedSpace,
    *,
    low: float | None,
    high: float,
    seed: int,
    price: Price | None = None,
    priors: Sequence[Prior] = (),
    metric: Metric = VAL_TOP1,
) -> Proposer:
    """Make an empty proposer; arguments and errors as in `Proposer`.

    Args:
        sampler: Name of the sampler.
        geometry: The backbone.
        space: The search space.
        low: Lower end of the range of budgets in the unit of the price; None for a single budget.
        high: The budget, or the upper end of the range.
        seed: Seed of the study.
        price: The cost function; exact multiply-adds if None.
        priors: Results of another study; used by `evolution` only.
        metric: The metric to optimise.
    """
    if sampler == "evolution":
        return EvolutionProposer(
            geometry, space, low=low, high=high, seed=seed, price=price, priors=priors, metric=metric
        )
    if sampler == "gradients":
        return GradientsProposer(geometry, space, low=low, high=high, seed=seed, price=price, metric=metric)
    from sparsesearch.search.samplers.optuna_search import OptunaProposer  # Optuna is used by its own samplers only

    return OptunaProposer(geometry, space, low=low, high=high, sampler=sampler, seed=seed, price=price, metric=metric)
