"""The Pareto front of a study, its best trial and its dense reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sparsesearch.analysis.pareto import pareto_front
from sparsesearch.study.metric import VAL_TOP1, Metric
from sparsesearch.study.trial import Axis, Fidelity, Origin, Trial, TrialState

BEST_FIRST = (Fidelity.FINETUNE, Fidelity.RESCORED, Fidelity.SUPERNET, Fidelity.UNTRAINED)
"""Fidelities of candidates, highest first."""


@dataclass(frozen=True)
class StudyFront:
    """The Pareto front of a study at one fidelity.

    Attributes:
        fidelity: The highest fidelity with complete candidates; None if there are none yet.
        reference: The dense model; None until it is measured.
        points: The non-dominated trials, cheapest first; hand-crafted baselines are included.
        candidates: All complete trials of that fidelity, by number.
        axis: Unit of the costs.
        metric: The metric to optimise.
        trained_dense: The dense model with the same training as the candidates; None without one.
    """

    fidelity: Fidelity | None
    reference: Trial | None
    points: tuple[Trial, ...]
    candidates: tuple[Trial, ...]
    axis: Axis = "macs"
    metric: Metric = VAL_TOP1
    trained_dense: Trial | None = None

    def best(self, *, limit: float) -> Trial | None:
        """The most accurate trial within a budget on the front's axis; ties go to the cheaper one.

        A measured latency takes precedence over a predicted one: a schedule that exceeds the budget when measured is
        never the best.
        """
        affordable = [trial for trial in self.points if cost_along(trial, self.axis) <= limit]
        return max(affordable, key=lambda t: (self.metric.score(t.metrics), -cost_along(t, self.axis)), default=None)


def study_front(trials: Sequence[Trial], *, axis: Axis = "macs", metric: Metric = VAL_TOP1) -> StudyFront:
    """The front of the highest fidelity that has complete trials; fidelities are never mixed.

    Args:
        trials: Of one study.
        axis: Unit of the costs; trials without a latency are left out of a front over milliseconds.
        metric: The metric to optimise.
    """
    reference = next((t for t in trials if t.fidelity is Fidelity.DENSE and t.state is TrialState.REFERENCE), None)
    for fidelity in BEST_FIRST:
        candidates = tuple(
            trial
            for trial in trials
            if trial.fidelity is fidelity and has_score(trial, metric) and trial.cost.along(axis) is not None
        )
        if any(trial.origin is Origin.SEARCH for trial in candidates):
            on_front = pareto_front([(metric.score(t.metrics), cost_along(t, axis)) for t in candidates])
            points = tuple(candidates[i] for i in on_front)
            again = [t for t in trials if t.fidelity is fidelity and t.state is TrialState.REFERENCE]
            return StudyFront(fidelity, reference, points, candidates, axis, metric, again[0] if again else None)
    return StudyFront(None, reference, (), (), axis, metric)


def joint_front(front: StudyFront) -> tuple[Trial, ...]:
    """The candidates that are non-dominated in accuracy, multiply-adds and milliseconds, cheapest first."""
    known = [trial for trial in front.candidates if trial.cost.ms is not None]
    values = [(-front.metric.score(t.metrics), float(t.cost.macs), cost_along(t, "ms")) for t in known]
    kept = [
        trial
        for trial, own in zip(known, values, strict=True)
        if not any(all(a <= b for a, b in zip(one, own, strict=True)) and one != own for one in values)
    ]
    return tuple(sorted(kept, key=lambda trial: (cost_along(trial, front.axis), trial.number)))


def cost_along(trial: Trial, axis: Axis) -> float:
    """The cost of a trial; infinite if unknown."""
    cost = trial.cost.along(axis)
    return math.inf if cost is None else float(cost)


def has_score(trial: Trial, metric: Metric) -> bool:
    """Whether a trial is complete and has a finite value of the metric."""
    return trial.state is TrialState.COMPLETE and math.isfinite(metric.of(trial.metrics))
