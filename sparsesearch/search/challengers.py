"""Searched schedules that are fine-tuned because of a hand-crafted one, so that none of these is left unchallenged."""

from __future__ import annotations

from collections.abc import Sequence

from sparsesearch.analysis.study_front import cost_along
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.step import ResolvedStep
from sparsesearch.study.metric import Metric
from sparsesearch.study.trial import Axis, Trial

_OTHER_COUNT = 0.1  # counts that differ by less are taken for the same
_SAME_BUDGET = 0.01  # hand-crafted schedules whose costs differ by less have one challenger


def challengers(
    candidates: Sequence[Trial],
    baselines: Sequence[Trial],
    *,
    geometry: BackboneGeometry,
    metric: Metric,
    axis: Axis = "macs",
) -> list[Trial]:
    """For each hand-crafted schedule, the best candidate of no higher cost that differs from all of them.

    Of hand-crafted schedules that cost the same within 1 %, the cheapest counts.

    Args:
        candidates: Evaluated searched schedules, all at the fidelity of the baselines.
        baselines: Evaluated hand-crafted schedules.
        geometry: The backbone.
        metric: The metric to rank by.
        axis: Unit of the costs.

    Returns:
        Without repetitions, those of the most expensive baselines first.
    """
    different = [
        trial
        for trial in candidates
        if all(is_other(trial.schedule, baseline.schedule, geometry) for baseline in baselines)
    ]
    found: dict[int, Trial] = {}
    limit = 0.0
    for baseline in sorted(baselines, key=lambda trial: (cost_along(trial, axis), trial.number)):
        cost = cost_along(baseline, axis)
        if limit and cost <= limit * (1.0 + _SAME_BUDGET):
            continue
        limit = cost
        able = [trial for trial in different if cost_along(trial, axis) <= cost]
        if able:
            best = max(able, key=lambda t: (metric.score(t.metrics), -cost_along(t, axis), -t.number))
            found.setdefault(best.number, best)
    return list(reversed(found.values()))


def is_other(one: Schedule, other: Schedule, geometry: BackboneGeometry) -> bool:
    """Return whether two schedules differ in a place, a method, or a count by a tenth or more."""
    ours, theirs = one.resolve(geometry), other.resolve(geometry)
    if [_kind(step) for step in ours] != [_kind(step) for step in theirs]:
        return True
    pairs = [(step.num_tokens, baseline.num_tokens) for step, baseline in zip(ours, theirs, strict=True)]
    return any(abs(kept - baseline) >= _OTHER_COUNT * baseline for kept, baseline in pairs)


def _kind(step: ResolvedStep) -> tuple[object, ...]:
    return step.stage, step.block, step.phase, step.reducer, step.scorer
