"""An evaluator that does nothing, and a controller that proposes any number of trials, to measure overhead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.study.events import Ended, Event, Measured
from sparsesearch.study.protocols import Done
from sparsesearch.study.trial import Fidelity, Measurement, NewTrial, Origin, Trial, TrialState

DEIT_SMALL = BackboneGeometry(
    name="deit_small_patch16_224",
    image_size=(224, 224),
    stages=(StageGeometry(depth=12, dim=384, attn_dim=384, num_heads=6, mlp_dim=1536, grid=(14, 14)),),
    stem_macs=196 * 768 * 384,
    head_macs=384 * 1000,
    params=22_050_664,
)


class InstantEvaluator:
    """Reports one measurement and the end."""

    def evaluate(self, trial: Trial) -> Iterator[Event]:
        """The two events."""
        measurement = Measurement(
            step=0, attempt=trial.attempt, fidelity=trial.fidelity, metrics={"val_top1": 0.5}, seconds=0.0, seed=0
        )
        yield Measured(trial=trial.number, attempt=trial.attempt, measurement=measurement)
        yield Ended(trial=trial.number, attempt=trial.attempt, state=TrialState.COMPLETE)


def open_instant(document: dict[str, Any]) -> InstantEvaluator:
    """The factory for workers."""
    return InstantEvaluator()


class ManyTrials:
    """A controller that proposes `count` distinct trials of one fidelity and ignores their results."""

    def __init__(self, count: int, fidelity: Fidelity) -> None:
        self._fidelity = fidelity
        self._left = count
        self._asked = 0
        self._cost = AnalyticCost()

    def ask(self) -> NewTrial | Done:
        """The next trial."""
        if self._asked == self._left:
            return Done()
        number, self._asked = self._asked, self._asked + 1
        keep = (196 - 1 - number % 150, 1 + number // 150)  # 150 x 40 distinct pairs
        schedule = Schedule.at([3, 6], [count / 196 for count in keep])
        return NewTrial(
            number=number,
            fidelity=self._fidelity,
            origin=Origin.SEARCH,
            label="search",
            schedule=schedule,
            key=schedule.key(DEIT_SMALL),
            cost=self._cost.estimate(DEIT_SMALL, schedule),
            seed=0,
        )

    def tell(self, trial: Trial) -> None:
        """Ignore the result."""
