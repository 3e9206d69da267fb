"""A snapshot of a study: its stored trials and times, and what is derived from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from sparsesearch.analysis.pairs import PairedDifference, paired_difference
from sparsesearch.analysis.pareto import dominated_percent
from sparsesearch.analysis.pick import pick
from sparsesearch.analysis.shown_trials import shown_numbers
from sparsesearch.analysis.study_front import StudyFront, cost_along, has_score, study_front
from sparsesearch.study.digest import TrialRow, rows_of
from sparsesearch.study.hits import Hits
from sparsesearch.study.protocols import StudyRecords
from sparsesearch.study.spec import PickName, StudySpec
from sparsesearch.study.state import StudyCondition, StudyState
from sparsesearch.study.trial import Fidelity, Origin, StudyTimes, Trial, TrialState, TrialTimes

TRAINED = frozenset({Fidelity.DENSE, Fidelity.SUPERNET_TRAINING, Fidelity.COUNTS, Fidelity.FINETUNE, Fidelity.RETRAIN})
"""Fidelities whose trials are training runs, each shown as a run of its own."""

DEMO_WARNING = "bundled digits demo: accuracies and schedules do not transfer to other data"
NOT_MEANINGFUL_WARNING = "accuracy not meaningful: there was too little time to train the backbone"

_MOST = 2000
"""Trials of a study that is read as a whole: pictures do not tell more apart, and the hits of each are a kilobyte."""


@dataclass(frozen=True)
class StudyView:
    """A snapshot of a stored study. Everything that is displayed is derived from it.

    Attributes:
        spec: The study.
        trials: Its trials in order of their numbers; of many evaluations a part, with all that are on a front.
        times: Times of the study and its trials.
        condition: Its stored state, and what is known with it.
        uid: Its unique id, which names the folder of its checkpoints.
        hits: The images that trials classify correctly, by number, as far as they are known; see `with_hits`.
        all_rows: A little of every trial, if `trials` are not all; see `rows`.
    """

    spec: StudySpec
    trials: tuple[Trial, ...]
    times: StudyTimes
    condition: StudyCondition = field(default_factory=lambda: StudyCondition(state=StudyState.PAUSED))
    uid: str = ""
    hits: Mapping[int, Hits] = field(default_factory=dict)
    all_rows: Sequence[TrialRow] | None = None

    @classmethod
    def of(cls, records: StudyRecords, study: str, *, most: int | None = _MOST) -> StudyView:
        """Read a snapshot of a stored study.

        Args:
            records: The store.
            study: Name of the study.
            most: Of more trials than this, evaluations are left out; None to read all.

        Raises:
            StudyNotFoundError: There is no study of that name.
        """
        condition, spec = records.condition(study), records.spec(study)
        rows, shown = None, None
        if most is not None and records.digest(study).num_trials > most:
            rows = records.rows(study)
            shown = shown_numbers(rows, most=most)
        trials = tuple(records.trials(study, numbers=shown))
        # Times are read after the trials, so that every measurement in the snapshot has its time.
        times = records.times(study, numbers=shown)
        view = cls(spec, trials, times, condition=condition, uid=records.uid(study), all_rows=rows)
        return view.with_hits(records)

    @cached_property
    def rows(self) -> Sequence[TrialRow]:
        """A little of every trial of the study, in order of their numbers."""
        return rows_of(self.trials, self.times, self.spec.metric) if self.all_rows is None else self.all_rows

    def with_hits(self, records: StudyRecords) -> StudyView:
        """Return the same with the hits of the dense model and the candidates; of many, those that are shown."""
        front = self.front
        compared = list(front.candidates)
        if len(compared) > _MOST:
            compared = [*front.points, *(trial for trial in compared if trial.origin is Origin.BASELINE)]
        compared += [] if front.reference is None else [front.reference]
        return replace(self, hits=records.hits(self.spec.name, {trial.number for trial in compared}))

    def difference(self, one: Trial, other: Trial) -> PairedDifference | None:
        """By how much a trial is more accurate than another on the same images; None if that is not known."""
        ours, theirs = self.hits.get(one.number), self.hits.get(other.number)
        if ours is None or theirs is None or not ours.count or not ours.is_comparable(theirs):
            return None
        return paired_difference(ours, theirs)

    @cached_property
    def front(self) -> StudyFront:
        """The front of the highest fidelity that has one."""
        return study_front(self.trials, axis=self.spec.budget.axis, metric=self.spec.metric)

    @cached_property
    def best(self) -> Trial | None:
        """The best trial within the study's budget, by the rule of its document; None while nothing is within it."""
        return None if self.limit is None else self.picked(self.front, limit=self.limit)

    @cached_property
    def most_accurate(self) -> Trial | None:
        """The most accurate trial within the study's budget; None while there is none."""
        return None if self.limit is None else self.front.best(limit=self.limit)

    def picked(self, front: StudyFront, *, limit: float, rule: PickName | None = None) -> Trial | None:
        """Return the best trial of a front within a budget; None if none is within it.

        Args:
            front: A front of this study.
            limit: The budget in the unit of the front's axis.
            rule: How it is picked; None for the rule of the study.
        """
        return pick(front, limit=limit, rule=rule or self.spec.pick, difference=self.difference)

    @cached_property
    def hypervolume(self) -> float | None:
        """Area that the front dominates, from 0 to 100 percent; larger is better.

        This is the area between the front and the fixed reference point (accuracy 0, cost of the dense model), divided
        by that of a model without errors and without cost. Costs are multiply-adds, or milliseconds if the budget is in
        milliseconds. Values are comparable within one study and fidelity, and across studies of one backbone and
        budget; the value may drop when the front changes from evaluated to fine-tuned schedules.
        None until the dense model is measured, or if the metric is not a fraction to maximise.
        """
        if self.dense_cost is None:
            return None
        points = [(self.score(trial), cost_along(trial, self.front.axis)) for trial in self.front.points]
        return dominated_percent(points, dense_cost=self.dense_cost)

    @property
    def dense_cost(self) -> float | None:
        """Cost of the dense model, where there are hypervolumes; see `hypervolume`."""
        dense, metric = self.front.reference, self.spec.metric
        if dense is None or metric.unit != "fraction" or not metric.higher_is_better:
            return None
        return cost_along(dense, self.front.axis)

    @property
    def limit(self) -> float | None:
        """The budget in the unit of the front's axis; None if it is relative to a dense model not yet measured."""
        return self.spec.budget.high if self.spec.budget.axis == "ms" else self.budget_macs

    @property
    def budget_macs(self) -> int | None:
        """The budget in multiply-adds; None for milliseconds, or if relative to a dense model not yet measured."""
        if self.spec.budget.axis == "ms":
            return None
        dense = self.front.reference
        if dense is None:
            dense = next((trial for trial in self.trials if trial.fidelity is Fidelity.DENSE), None)
        return None if dense is None else self.spec.budget.macs(dense.cost.macs)[1]

    @property
    def trained(self) -> tuple[Trial, ...]:
        """The training trials that have started."""
        return tuple(
            trial for trial in self.trials if trial.fidelity in TRAINED and trial.state is not TrialState.WAITING
        )

    @property
    def baselines(self) -> tuple[Trial, ...]:
        """The measured hand-crafted schedules, of all fidelities."""
        return tuple(
            trial for trial in self.trials if trial.origin is Origin.BASELINE and has_score(trial, self.spec.metric)
        )

    @property
    def evaluated(self) -> tuple[Trial, ...]:
        """The trials that are evaluations without training, shown as rows of one table; of many a part."""
        return tuple(trial for trial in self.trials if trial.fidelity not in TRAINED)

    @property
    def has_results(self) -> bool:
        """Whether any trial has a measurement or has ended."""
        return any(trial.measurements or trial.state.is_final for trial in self.trials)

    @property
    def is_under_way(self) -> bool:
        """Whether any trial is running or waiting."""
        return any(not trial.state.is_final for trial in self.trials)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings to show next to every accuracy of this study."""
        demo = (DEMO_WARNING,) if self.spec.data.is_demo else ()
        return demo if self.spec.meaningful else (*demo, NOT_MEANINGFUL_WARNING)

    def score(self, trial: Trial) -> float:
        """The metric of a trial, to be maximised; NaN if it was not measured."""
        return self.spec.metric.score(trial.metrics)

    def times_of(self, trial: Trial) -> TrialTimes:
        """Times of a trial."""
        return self.times.trials.get(trial.number, TrialTimes())

    def schedule_text(self, trial: Trial) -> str:
        """The schedule as one line: `3:137 6:96` leaves 137 tokens before block 3 and 96 before block 6."""
        resolved = self.spec.resolved
        return trial.schedule.describe(resolved.geometry) if resolved is not None else ""
