"""Early stopping at rungs, from stored measurements: Ray Tune's ASHA for one budget, MO-ASHA for a budget range."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from sparsesearch.analysis.pareto import Point
from sparsesearch.search.rung_ranking import goes_on
from sparsesearch.study.metric import VAL_TOP1, Metric
from sparsesearch.study.spec import RungSpec, StudySpec
from sparsesearch.study.trial import Axis, Fidelity, Measurement, Origin, Trial


class Rungs(Protocol):
    """Decides after each epoch of a searched candidate whether it continues.

    Baselines, references and candidates at their last epoch always continue. A decision depends only on the set of
    earlier measurements, not on their order, so rungs that are restored from the store decide as before.
    """

    def decide(self, trial: Trial, measurement: Measurement) -> str | None:
        """Return why the trial is stopped after this measurement, or None if it continues."""


def open_rungs(spec: StudySpec, trials: Iterable[Trial]) -> Rungs | None:
    """Create the rungs of a study, restored from its stored measurements; None if it has none."""
    rungs = spec.fidelity.rungs
    if rungs is None:
        return None
    epochs = spec.fidelity.finetune.epochs
    if spec.budget.low is None:
        return AccuracyRungs(rungs, epochs=epochs, trials=trials, metric=spec.metric)
    return ParetoRungs(rungs, epochs=epochs, trials=trials, axis=spec.budget.axis, metric=spec.metric)


def has_rungs(trial: Trial) -> bool:
    """Whether a trial may be stopped at a rung."""
    return trial.fidelity is Fidelity.FINETUNE and trial.origin is Origin.SEARCH


@dataclass(frozen=True)
class _Known:
    """The identity of a trial for ASHA, the same for all its attempts."""

    trial_id: str


class AccuracyRungs:
    """Rungs where the most accurate candidates continue, for studies of one budget with candidates of equal cost.

    Args:
        spec: Where the rungs are.
        epochs: Epochs of a full fine-tuning.
        trials: The stored trials, whose measurements restore the rungs after a restart.
        metric: The metric to optimise.
    """

    def __init__(self, spec: RungSpec, *, epochs: int, trials: Iterable[Trial], metric: Metric = VAL_TOP1) -> None:
        self._spec, self._metric = spec, metric
        self._epochs = epochs
        self._known: dict[int, _Known] = {}
        self._asha: Any = ASHAScheduler(
            time_attr="step",
            metric=metric.name,
            mode="max" if metric.higher_is_better else "min",
            max_t=max(epochs, spec.first_epoch),
            grace_period=spec.first_epoch,
            reduction_factor=spec.factor,
            stop_last_trials=False,
        )
        for trial in trials:
            for measurement in trial.measurements:
                self.decide(trial, measurement)

    def decide(self, trial: Trial, measurement: Measurement) -> str | None:
        """See `Rungs`."""
        if not has_rungs(trial):
            return None
        if trial.number not in self._known:
            self._known[trial.number] = _Known(f"{trial.number:05d}")
            self._asha.on_trial_add(None, self._known[trial.number])
        result = {"step": measurement.step, self._metric.name: self._metric.of(measurement.metrics)}
        decision = self._asha.on_trial_result(None, self._known[trial.number], result)
        if decision != TrialScheduler.STOP or measurement.step >= self._epochs:
            return None
        return f"below the best 1 of {self._spec.factor} after epoch {measurement.step}"


class ParetoRungs:
    """Rungs that rank by non-domination in accuracy and cost, and by spread within a rank (MO-ASHA).

    For studies of a budget range: a cheap candidate is not stopped for being less accurate than an expensive one.

    Args:
        spec: Where the rungs are.
        epochs: Epochs of a full fine-tuning.
        trials: The stored trials, whose measurements restore the rungs after a restart.
        axis: Unit of costs; milliseconds are the predicted ones, which do not change while a study runs.
        metric: The metric to optimise.

    Source: MO-ASHA, Schmucker et al. 2021 (arXiv:2106.12639).
    """

    def __init__(
        self,
        spec: RungSpec,
        *,
        epochs: int,
        trials: Iterable[Trial],
        axis: Axis = "macs",
        metric: Metric = VAL_TOP1,
    ) -> None:
        self._spec, self._metric = spec, metric
        self._axis = axis
        self._rungs: dict[int, dict[int, Point]] = {milestone: {} for milestone in _milestones(spec, epochs)}
        for trial in trials:
            for measurement in trial.measurements:
                if has_rungs(trial) and measurement.step in self._rungs:
                    self._rungs[measurement.step][trial.number] = self._point(trial, measurement)

    def decide(self, trial: Trial, measurement: Measurement) -> str | None:
        """See `Rungs`. For a measurement that was decided before, returns None."""
        rung = self._rungs.get(measurement.step)
        if rung is None or not has_rungs(trial) or trial.number in rung:
            return None
        newest = self._point(trial, measurement)
        others = [point for _, point in sorted(rung.items())]
        rung[trial.number] = newest
        if goes_on(others, newest=newest, factor=self._spec.factor):
            return None
        return f"not among the best 1 of {self._spec.factor} in accuracy and cost after epoch {measurement.step}"

    def _point(self, trial: Trial, measurement: Measurement) -> Point:
        cost = trial.cost.macs if self._axis == "macs" else trial.cost.predicted_ms
        return self._metric.score(measurement.metrics), float("nan") if cost is None else float(cost)


def _milestones(spec: RungSpec, epochs: int) -> Iterator[int]:
    """Yield the epochs after which a candidate may be stopped, excluding the last epoch."""
    milestone = spec.first_epoch
    while milestone < epochs:
        yield milestone
        milestone *= spec.factor
