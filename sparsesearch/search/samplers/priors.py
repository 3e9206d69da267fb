"""Priors: trials of another study, and their transfer to the backbone of this one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from sparsesearch.analysis.study_front import has_score
from sparsesearch.cost.analytic import dense_macs
from sparsesearch.errors import ScheduleError, SpecError
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.search.samplers.visible import gaps_to_front
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.sampling import Gene, settle
from sparsesearch.space.shape import Location, Method, Shape
from sparsesearch.study.metric import VAL_TOP1, Metric
from sparsesearch.study.prior import Prior, PriorStep
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import Fidelity, Origin, Trial

MOST_PRIORS = 64
_NEAR = 0.15  # a prior matches a budget if its relative cost difference is smaller


def collect_priors(spec: StudySpec, trials: Sequence[Trial]) -> tuple[Prior, ...]:
    """Collect priors from a study: its results at the fidelity that has most of them.

    Args:
        spec: The resolved study.
        trials: Its trials.

    Returns:
        At most `MOST_PRIORS`, the closest to the front first.

    Raises:
        SpecError: The study has no accuracy of its dense model, or of any schedule.
    """
    dense = next(
        (t for t in trials if t.origin is Origin.REFERENCE and t.fidelity is Fidelity.DENSE and t.metrics), None
    )
    scored = [trial for trial in trials if trial.origin is not Origin.REFERENCE and has_score(trial, spec.metric)]
    dense_value = 0.0 if dense is None else spec.metric.of(dense.metrics)
    if not scored or not dense_value > 0.0 or spec.resolved is None:
        raise SpecError(
            f"study {spec.name!r} has no evaluated schedule to start from; continue it with "
            f"`sparsesearch resume {spec.name}`, or choose another study (`sparsesearch studies`)"
        )
    fidelity = Counter(trial.fidelity for trial in scored).most_common(1)[0][0]
    chosen = [trial for trial in scored if trial.fidelity is fidelity]
    return make_priors(chosen, spec.resolved.geometry, dense_value=dense_value, metric=spec.metric)


def make_priors(
    trials: Sequence[Trial], geometry: BackboneGeometry, *, dense_value: float, metric: Metric = VAL_TOP1
) -> tuple[Prior, ...]:
    """Convert trials to priors.

    Args:
        trials: Trials with an accuracy, all of one fidelity.
        geometry: Their backbone.
        dense_value: Metric of the dense model.
        metric: The metric.

    Returns:
        At most `MOST_PRIORS`, the closest to the front first.
    """
    total = dense_macs(geometry)
    found = [
        Prior(
            steps=_relative(trial.schedule, geometry),
            accuracy=metric.relative(metric.of(trial.metrics), dense_value),
            cost=trial.cost.macs / total,
        )
        for trial in sorted(trials, key=lambda trial: trial.number)
    ]
    gaps = gaps_to_front(np.array([prior.accuracy for prior in found]), np.array([prior.cost for prior in found]))
    return tuple(found[i] for i in np.argsort(gaps, kind="stable")[:MOST_PRIORS])


def _relative(schedule: Schedule, geometry: BackboneGeometry) -> tuple[PriorStep, ...]:
    last = max(1, len(geometry.stages) - 1)
    return tuple(
        PriorStep(
            stage=step.stage / last,
            depth=step.block / geometry.stages[step.stage].depth,
            phase=step.phase,
            keep_ratio=step.num_tokens / geometry.stages[step.stage].num_tokens,
            reducer=step.reducer,
            scorer=step.scorer,
        )
        for step in schedule.resolve(geometry)
    )


def transferred(prior: Prior, geometry: BackboneGeometry, space: ResolvedSpace) -> tuple[Schedule, Shape] | None:
    """Transfer a prior to a backbone: its schedule there, and the closest shape of the space.

    Methods that the space does not contain are replaced by its first method.

    Args:
        prior: The prior.
        geometry: The backbone.
        space: The search space.

    Returns:
        None if the prior cannot be transferred.
    """
    steps: list[Step] = []
    genes: list[Gene] = []
    left: dict[int, float] = {}
    for known in prior.steps:
        stage = round(known.stage * (len(geometry.stages) - 1))
        block = min(round(known.depth * geometry.stages[stage].depth), geometry.stages[stage].depth - 1)
        method = Method(reducer=known.reducer, scorer=known.scorer, phase=known.phase)
        index = space.methods.index(method) if method in space.methods else 0
        method, before = space.methods[index], left.get(stage, 1.0)
        left[stage] = min(known.keep_ratio, before)
        step = Step(
            stage=stage,
            block=block,
            phase=method.phase,
            keep_ratio=left[stage],
            reducer=method.reducer,
            scorer=method.scorer,
        )
        drop = float(np.log(before / left[stage]))
        steps.append(step)
        if drop > 0.0:
            genes.append(Gene(position=_nearest((stage, block), space), weight=drop, method=index))
    genes = sorted(genes, key=lambda gene: -gene.weight)[: space.max_predictors]
    try:
        schedule = Schedule(steps=tuple(steps)).canonical(geometry)
    except ScheduleError:
        return None  # the backbone does not support a step at its location
    if not schedule.steps or len(genes) < space.min_predictors:
        return None
    return schedule, settle(sorted(genes, key=lambda gene: gene.position), space)


def _nearest(location: Location, space: ResolvedSpace) -> int:
    """Index of the closest location of the space, in the same stage if possible."""
    stage, block = location
    return min(
        range(len(space.locations)),
        key=lambda i: (abs(space.locations[i][0] - stage), abs(space.locations[i][1] - block), i),
    )


def best_at(priors: Sequence[Prior], cost: float) -> Prior:
    """The most accurate prior of about the given cost; if there is none, the one with the closest cost.

    Args:
        priors: At least one.
        cost: Fraction of the dense cost.
    """
    near = [prior for prior in priors if abs(prior.cost / cost - 1.0) < _NEAR]
    if near:
        return max(near, key=lambda prior: prior.accuracy)
    return min(priors, key=lambda prior: abs(float(np.log(prior.cost / cost))))
