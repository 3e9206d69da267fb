"""From what was measured to what is known: the fit of a profile, and its error on schedules that it never saw."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sparsesearch.cost.latency_model import LatencyModel
from sparsesearch.errors import ProfileError
from sparsesearch.latency.profile.document import Timing
from sparsesearch.latency.profile.latency_fitting import PART, Observation, fit_curves, observe
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.study.latency_fit import HeldOutError, LatencyFit, shape_of_stages
from sparsesearch.study.latency_record import Conditions, Latency

MARGIN_QUANTILE = 0.9
_PART_WEIGHT = 0.3
_ROUNDS = 3
_TRUST_IN_ANCHOR = 2.0
"""A group's dense model counts as much as so many of its schedules when its speed is estimated."""

_UNKNOWN = HeldOutError(num_schedules=0, mean=0.0, worst=0.0, bias=0.0, margin=0.0)


class Fitted(NamedTuple):
    """A fit, and how fast the machine was in each group of measurements.

    Attributes:
        fit: The fit.
        slowness: By group, how many times as long everything took as the dense model's runs in it tell.
    """

    fit: LatencyFit
    slowness: tuple[float, ...]


def fit_profile(
    geometry: BackboneGeometry, conditions: Conditions, *, anchors: Sequence[Latency], timings: Sequence[Timing]
) -> Fitted:
    """The fit of what was measured; held-out schedules only tell its error.

    Every latency is its ratio to the dense model's in the same rounds, times the dense model's median over all groups:
    a machine whose speed drifts does not bend the curves. A few runs of the dense model are noisy themselves, and all
    schedules of its group suffer alike; so how far these lie off together is estimated with the curves and divided
    out.

    Args:
        geometry: The backbone.
        conditions: Under which it was measured.
        anchors: The dense model in each group.
        timings: What was measured.

    Raises:
        ProfileError: Too little was measured.
    """
    dense_ms = statistics.median(anchor.median_ms for anchor in anchors)
    used = [one for one in timings if one.role != "held_out"]
    held_out = [one for one in timings if one.role == "held_out"]
    if len(used) < 4 or not held_out:
        raise ProfileError(f"{len(timings)} measurements are too few for a profile; give more --seconds or --schedules")
    counts: dict[int, set[int]] = {}
    for one in used:
        if one.role == "grid":
            step = one.schedule.resolve(geometry)[0]
            counts.setdefault(step.stage, {geometry.stages[step.stage].num_tokens}).add(step.num_tokens)
    slowness = [1.0] * len(anchors)
    for _ in range(_ROUNDS):
        observations = [observe(geometry, Schedule(), ms=dense_ms)]
        for one in used:
            ms = one.ratio * dense_ms / slowness[one.group]
            observations.append(
                _part(geometry, one, ms=ms) if one.role == "part" else observe(geometry, one.schedule, ms=ms)
            )
        curves = fit_curves(geometry, observations, counts={index: sorted(found) for index, found in counts.items()})
        fit = LatencyFit(
            backbone=geometry.name,
            shape=shape_of_stages(geometry),
            conditions=conditions,
            dense_ms=dense_ms,
            curves=curves,
            error=_UNKNOWN,
        )
        slowness = _slowness(fit, geometry, used, num_groups=len(anchors))
    error = held_out_error(fit, geometry, held_out, slowness=slowness)
    return Fitted(fit.model_copy(update={"error": error}), tuple(slowness))


def held_out_error(
    fit: LatencyFit, geometry: BackboneGeometry, timings: Sequence[Timing], *, slowness: Sequence[float]
) -> HeldOutError:
    """How wrong a fit is on schedules that it never saw; those with methods that it does not know are left out.

    Args:
        fit: The fit.
        geometry: The backbone.
        timings: The schedules.
        slowness: Of each group, from what was fitted on.

    Raises:
        ProfileError: There are none.
    """
    model = LatencyModel(fit)
    errors = []
    for one in timings:
        try:
            predicted = model.predict(geometry, one.schedule)
        except ProfileError:
            continue
        errors.append(one.ratio * fit.dense_ms / slowness[one.group] / predicted - 1.0)
    if not errors:
        raise ProfileError("no schedule was held out whose methods were measured; give more --seconds")
    return HeldOutError(
        num_schedules=len(errors),
        mean=float(np.mean(np.abs(errors))),
        worst=float(np.max(np.abs(errors))),
        bias=float(np.mean(errors)),
        margin=max(float(np.quantile(errors, MARGIN_QUANTILE, method="higher")), _normal_margin(errors)),
    )


def _normal_margin(errors: Sequence[float]) -> float:
    """The same quantile of a normal distribution, with an allowance for how few errors tell its width."""
    width = float(np.sqrt(np.mean(np.square(errors))))
    return statistics.NormalDist().inv_cdf(MARGIN_QUANTILE) * width * (1.0 + 2.0 / len(errors))


def _slowness(
    fit: LatencyFit, geometry: BackboneGeometry, timings: Sequence[Timing], *, num_groups: int
) -> list[float]:
    """How far the schedules of each group lie off together; the dense model, which does not, holds against it."""
    model = LatencyModel(fit)
    off: list[list[float]] = [[] for _ in range(num_groups)]
    for one in timings:
        if one.role != "part":
            off[one.group].append(math.log(one.ratio * fit.dense_ms / model.predict(geometry, one.schedule)))
    return [
        math.exp(statistics.median(found) * len(found) / (len(found) + _TRUST_IN_ANCHOR)) if found else 1.0
        for found in off
    ]


def _part(geometry: BackboneGeometry, one: Timing, *, ms: float) -> Observation:
    """The equation of the feed-forward networks of all blocks."""
    assert one.num_tokens is not None
    name = "stage 0 mlp"
    parts = {(name, one.num_tokens): geometry.stages[0].depth, (f"{PART}{name}", 0): 1}
    return Observation(parts, ms, _PART_WEIGHT)
