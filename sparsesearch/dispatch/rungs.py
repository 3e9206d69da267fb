"""Rung decisions of one objective: Ray Tune's ASHA, fed from stored measurements alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from sparsesearch.spec import RungSpec
from sparsesearch.trial import Fidelity, Measurement, Origin, Trial

_METRIC = "val_top1"


@dataclass(frozen=True)
class _Known:
    """What ASHA knows a trial by: the same through all its attempts."""

    trial_id: str


class Rungs:
    """Decides after each epoch of a searched candidate whether it goes on.

    Baselines and references always go on, and so does a candidate that has reached its last epoch.

    Args:
        spec: Where the rungs are.
        epochs: Epochs of a whole fine-tuning.
        trials: The stored trials; their measurements fill the rungs again after a restart.
    """

    def __init__(self, spec: RungSpec, *, epochs: int, trials: Iterable[Trial]) -> None:
        self._spec = spec
        self._epochs = epochs
        self._known: dict[int, _Known] = {}
        self._asha: Any = ASHAScheduler(
            time_attr="step",
            metric=_METRIC,
            mode="max",
            max_t=max(epochs, spec.first_epoch),
            grace_period=spec.first_epoch,
            reduction_factor=spec.factor,
            stop_last_trials=False,
        )
        for trial in trials:
            for measurement in trial.measurements:
                self.decide(trial, measurement)

    def decide(self, trial: Trial, measurement: Measurement) -> str | None:
        """Why the trial is to be stopped after this measurement, or None if it goes on."""
        if trial.fidelity is not Fidelity.FINETUNE or trial.origin is not Origin.SEARCH:
            return None
        if trial.number not in self._known:
            self._known[trial.number] = _Known(f"{trial.number:05d}")
            self._asha.on_trial_add(None, self._known[trial.number])
        result = {"step": measurement.step, _METRIC: measurement.metrics.get(_METRIC, float("nan"))}
        decision = self._asha.on_trial_result(None, self._known[trial.number], result)
        if decision != TrialScheduler.STOP or measurement.step >= self._epochs:
            return None
        return f"below the best 1 of {self._spec.factor} after epoch {measurement.step}"
