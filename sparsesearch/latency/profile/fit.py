"""Fit a latency profile to measurements, and estimate its error on held-out schedules."""

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
"""Weight of a group's dense model, in schedules, when the speed of the group is estimated."""

_UNKNOWN = HeldOutError(num_schedules=0, mean=0.0, worst=0.0, bias=0.0, margin=0.0)


class Fitted(NamedTuple):
    """A fit, and the relative speed of each group of measurements.

    Attributes:
        fit: The fit.
        slowness: Correction factor of each group for the noise of its dense model.
    """

    fit: LatencyFit
    slowness: tuple[float, ...]


def fit_profile(
    geometry: BackboneGeometry, conditions: Conditions, *, anchors: Sequence[Latency], timings: Sequence[Timing]
) -> Fitted:
    """Fit a profile; held-out schedules are only used to estimate its error.

    Every latency is its ratio to the dense model in the same rounds, times the median of the dense model over all
    groups, which cancels drifts in machine speed. As the few runs of the dense model in a group are noisy themselves,
    the common error of all schedules of a group (`slowness`) is estimated together with the curves and divided out.

    Args:
        geometry: Geometry of the backbone.
        conditions: Conditions of the measurements.
        anchors: Latency of the dense model in each group.
        timings: The measurements.

    Raises:
        ProfileError: There are too few measurements.
    """
    dense_ms = statistics.median(anchor.median_ms for anchor in anchors)
    used = [one for one in timings if one.role != "held_out"]
    held_out = [one for one in timings if one.role == "held_out"]
    if len(used) < 4 or not held_out:
        raise ProfileError(f"{len(timings)} measurements are too few for a profile; increase --seconds or --schedules")
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
    """Estimate the error of a fit on held-out schedules; those with unmeasured methods are skipped.

    Args:
        fit: The fit.
        geometry: Geometry of the backbone.
        timings: The held-out schedules.
        slowness: Correction factor of each group, from the fit.

    Raises:
        ProfileError: No schedule is left.
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
        raise ProfileError("there is no held-out schedule whose methods were measured; increase --seconds")
    return HeldOutError(
        num_schedules=len(errors),
        mean=float(np.mean(np.abs(errors))),
        worst=float(np.max(np.abs(errors))),
        bias=float(np.mean(errors)),
        margin=max(float(np.quantile(errors, MARGIN_QUANTILE, method="higher")), _normal_margin(errors)),
    )


def _normal_margin(errors: Sequence[float]) -> float:
    """The same quantile of a normal distribution, with a correction for the small number of errors."""
    width = float(np.sqrt(np.mean(np.square(errors))))
    return statistics.NormalDist().inv_cdf(MARGIN_QUANTILE) * width * (1.0 + 2.0 / len(errors))


def _slowness(
    fit: LatencyFit, geometry: BackboneGeometry, timings: Sequence[Timing], *, num_groups: int
) -> list[float]:
    """The common error of the schedules of each group, shrunk towards 1 by the weight of the dense model."""
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
