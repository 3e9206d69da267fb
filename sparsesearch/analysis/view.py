"""What a study looks like at one moment: the trials and times of the store, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from sparsesearch.analysis.pareto import Point, dominated_percent
from sparsesearch.analysis.study_front import StudyFront, cost_along, study_front
from sparsesearch.study.protocols import StudyRecords
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import Fidelity, StudyTimes, Trial, TrialState, TrialTimes

TRAINED = frozenset({Fidelity.DENSE, Fidelity.SUPERNET_TRAINING, Fidelity.FINETUNE, Fidelity.RETRAIN})
"""Fidelities whose trials are trainings, each shown as a run of its own."""

DEMO_WARNING = "bundled digits demo: accuracies and schedules do not transfer to other data"
NOT_MEANINGFUL_WARNING = "accuracy not meaningful: the backbone could hardly be trained in the time given"


@dataclass(frozen=True)
class StudyView:
    """A study as the store held it at one moment. Everything that is shown is made from this, and from nothing else.

    Attributes:
        spec: The study.
        trials: Its trials in order of their numbers.
        times: When it happened.
    """

    spec: StudySpec
    trials: tuple[Trial, ...]
    times: StudyTimes

    @classmethod
    def of(cls, records: StudyRecords, study: str) -> StudyView:
        """Look at a stored study.

        Raises:
            StudyNotFoundError: There is none of that name.
        """
        trials = tuple(records.trials(study))
        # After the trials: so every measurement that is seen has its time, and is never shown under another one.
        return cls(spec=records.spec(study), trials=trials, times=records.times(study))

    @cached_property
    def front(self) -> StudyFront:
        """The front of the highest fidelity that has one."""
        return study_front(self.trials, axis=self.spec.budget.axis)

    @cached_property
    def best(self) -> Trial | None:
        """The most accurate trial within the study's budget, None while there is none."""
        limit = self.limit
        return None if limit is None else self.front.best(limit=limit)

    @cached_property
    def hypervolume(self) -> float | None:
        """Share of the area under the dense model that the front dominates, in [0, 1]; larger is better.

        The area between the front and the fixed reference point (accuracy 0, the dense model's cost), divided by the
        dense model's accuracy times its cost; costs are multiply-adds, or milliseconds where the budget is one. So it
        can be compared within a study and a fidelity, and across studies of one backbone and budget; at the change from
        evaluated to fine-tuned schedules it may drop.
        None until the dense model is measured, and if it has no accuracy at all.
        """
        if self.dense_point is None:
            return None
        points = [(trial.metrics["val_top1"], cost_along(trial, self.front.axis)) for trial in self.front.points]
        return dominated_percent(points, dense=self.dense_point)

    @property
    def dense_point(self) -> Point | None:
        """Accuracy and cost of the dense model, None until measured, and if it has no accuracy at all."""
        dense = self.front.reference
        if dense is None or not dense.metrics["val_top1"] > 0.0:
            return None
        return dense.metrics["val_top1"], cost_along(dense, self.front.axis)

    @property
    def limit(self) -> float | None:
        """The budget in the unit of the front's axis, None while a share of an unmeasured dense model."""
        return self.spec.budget.high if self.spec.budget.axis == "ms" else self.budget_macs

    @property
    def budget_macs(self) -> int | None:
        """The budget in multiply-adds, None while a share of an unmeasured dense model, and for milliseconds."""
        if self.spec.budget.axis == "ms":
            return None
        dense = self.front.reference
        if dense is None:
            dense = next((trial for trial in self.trials if trial.fidelity is Fidelity.DENSE), None)
        return None if dense is None else self.spec.budget.macs(dense.cost.macs)[1]

    @property
    def trained(self) -> tuple[Trial, ...]:
        """The trials that are trainings and have begun."""
        return tuple(
            trial for trial in self.trials if trial.fidelity in TRAINED and trial.state is not TrialState.WAITING
        )

    @property
    def evaluated(self) -> tuple[Trial, ...]:
        """The trials that are evaluations without a training, shown as rows of one table."""
        return tuple(trial for trial in self.trials if trial.fidelity not in TRAINED)

    @property
    def has_results(self) -> bool:
        """Whether there is anything to show. A study whose data turns out to be bad never has."""
        return any(trial.measurements or trial.state.is_final for trial in self.trials)

    @property
    def is_under_way(self) -> bool:
        """Whether a trial has begun, or waits, and has not ended."""
        return any(not trial.state.is_final for trial in self.trials)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be said beside every accuracy of this study."""
        demo = (DEMO_WARNING,) if self.spec.data.is_demo else ()
        return demo if self.spec.meaningful else (*demo, NOT_MEANINGFUL_WARNING)

    def times_of(self, trial: Trial) -> TrialTimes:
        """When a trial happened."""
        return self.times.trials.get(trial.number, TrialTimes())

    def schedule_text(self, trial: Trial) -> str:
        """`3:137 6:96` means 137 tokens left before block 3, 96 before block 6."""
        resolved = self.spec.resolved
        return trial.schedule.describe(resolved.geometry) if resolved is not None else ""
