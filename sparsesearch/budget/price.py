"""The cost function of a study: multiply-adds, or milliseconds on its target."""

from __future__ import annotations

from sparsesearch.cost.latency_model import LatencyModel, LatencyPrice
from sparsesearch.errors import SpecError
from sparsesearch.study.protocols import Price
from sparsesearch.study.spec import StudySpec


def study_latency(spec: StudySpec) -> LatencyModel | None:
    """The latency model of a resolved study; None if it has no target."""
    fit = None if spec.resolved is None else spec.resolved.latency
    return None if fit is None else LatencyModel(fit)


def study_price(spec: StudySpec) -> Price | None:
    """The cost function that the budget of a resolved study limits; None for exact multiply-adds.

    Raises:
        SpecError: The budget is in milliseconds, and the study has no latency profile.
    """
    if spec.budget.axis == "macs":
        return None
    fit = None if spec.resolved is None else spec.resolved.latency
    if fit is None:
        raise SpecError(
            f"the budget {spec.budget} needs a latency profile; give one with --device-profile NAME, or profile this "
            "machine with: sparsesearch profile"
        )
    return LatencyPrice(fit)
