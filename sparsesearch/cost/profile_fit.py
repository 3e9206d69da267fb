"""From what was measured to what is known: the fit of a profile, and its error on schedules that it never saw."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from sparsesearch.cost.latency_fitting import PART, Observation, fit_curves, observe
from sparsesearch.cost.latency_model import LatencyModel
from sparsesearch.cost.profile_document import Timing
from sparsesearch.errors import ProfileError
from sparsesearch.geometry import BackboneGeometry
from sparsesearch.latency_fit import HeldOutError, LatencyFit, shape_of_stages
from sparsesearch.latency_record import Conditions, Latency
from sparsesearch.schedule import Schedule

MARGIN_QUANTILE = 0.9
_PART_WEIGHT = 0.3
_UNKNOWN = HeldOutError(num_schedules=0, mean=0.0, worst=0.0, bias=0.0, margin=0.0)


def fit_profile(
    geometry: BackboneGeometry, conditions: Conditions, *, anchors: Sequence[Latency], timings: Sequence[Timing]
) -> LatencyFit:
    """The fit of what was measured; held-out schedules only tell its error.

    Every latency is its ratio to the dense model's in the same rounds, times the dense model's median over all groups:
    a machine whose speed drifts does not bend the curves.

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
    observations = [observe(geometry, Schedule(), ms=dense_ms)]
    counts: dict[int, set[int]] = {}
    for one in used:
        if one.role == "part":
            observations.append(_part(geometry, one, dense_ms=dense_ms))
            continue
        observations.append(observe(geometry, one.schedule, ms=one.ratio * dense_ms))
        if one.role == "grid":
            step = one.schedule.resolve(geometry)[0]
            counts.setdefault(step.stage, set()).add(step.num_tokens)
    for index, found in counts.items():
        found.add(geometry.stages[index].num_tokens)
    curves = fit_curves(geometry, observations, counts={index: sorted(found) for index, found in counts.items()})
    fit = LatencyFit(
        backbone=geometry.name,
        shape=shape_of_stages(geometry),
        conditions=conditions,
        dense_ms=dense_ms,
        curves=curves,
        error=_UNKNOWN,
    )
    return fit.model_copy(update={"error": held_out_error(fit, geometry, held_out)})


def held_out_error(fit: LatencyFit, geometry: BackboneGeometry, timings: Sequence[Timing]) -> HeldOutError:
    """How wrong a fit is on schedules that it never saw; those with methods that it does not know are left out."""
    model = LatencyModel(fit)
    errors = []
    for one in timings:
        try:
            errors.append(one.ratio * fit.dense_ms / model.predict(geometry, one.schedule) - 1.0)
        except ProfileError:
            continue
    if not errors:
        raise ProfileError("no schedule was held out whose methods were measured; give more --seconds")
    return HeldOutError(
        num_schedules=len(errors),
        mean=float(np.mean(np.abs(errors))),
        worst=float(np.max(np.abs(errors))),
        bias=float(np.mean(errors)),
        margin=max(0.0, float(np.quantile(errors, MARGIN_QUANTILE, method="higher"))),
    )


def _part(geometry: BackboneGeometry, one: Timing, *, dense_ms: float) -> Observation:
    """The equation of the feed-forward networks of all blocks."""
    assert one.num_tokens is not None
    name = "stage 0 mlp"
    parts = {(name, one.num_tokens): geometry.stages[0].depth, (f"{PART}{name}", 0): 1}
    return Observation(parts, one.ratio * dense_ms, _PART_WEIGHT)
