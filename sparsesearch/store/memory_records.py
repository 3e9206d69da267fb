"""Read studies of an in-memory store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from sparsesearch.analysis.pareto import pareto_front
from sparsesearch.analysis.study_front import cost_along, has_score, study_front
from sparsesearch.store import driver_errors
from sparsesearch.store.lease import Lease
from sparsesearch.store.moment import Moment
from sparsesearch.study.digest import FrontNumbers, Span, StudyDigest, StudySummary, TrialRow, rows_of, spans_of
from sparsesearch.study.hits import Hits
from sparsesearch.study.protocols import StudyRecords
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StudyCondition
from sparsesearch.study.trial import Axis, Fidelity, Origin, StudyTimes, Trial, TrialState, TrialTimes

WHERE = "this process's memory"
"""The store in messages."""


@dataclass
class StoredStudy:
    """A study, with its trials and times by number, and the numbers of trials by key, fidelity and seed."""

    spec: StudySpec
    lease: Lease
    created_at: float
    uid: str
    condition: StudyCondition
    trials: dict[int, Trial] = field(default_factory=dict)
    numbers: dict[tuple[str, Fidelity, int], int] = field(default_factory=dict)
    times: dict[int, TrialTimes] = field(default_factory=dict)
    hits: dict[int, Hits] = field(default_factory=dict)


class MemoryRecords(StudyRecords):
    """The studies of an in-memory store. Thread-safe."""

    def __init__(self, *, clock: Callable[[], float] | None) -> None:
        """Called by the store."""
        self._clock = clock
        self._lock = threading.RLock()
        self._studies: dict[str, StoredStudy] = {}

    def _now(self) -> Moment:
        return Moment.of_machine() if self._clock is None else Moment.of_clock(self._clock)

    def hits(self, name: str, numbers: Collection[int]) -> dict[int, Hits]:
        """Return the hits of trials that have any, by number. Raises `StudyNotFoundError`."""
        with self._lock:
            found = self._find(name).hits
            return {number: found[number] for number in sorted(numbers) if number in found}

    def condition(self, name: str) -> StudyCondition:
        """Return the state of a study and what is known with it. Raises `StudyNotFoundError`."""
        with self._lock:
            study = self._find(name)
            is_leased = study.lease.is_leased(now=self._now())
            work = study.condition.work if is_leased else ()
            return study.condition.model_copy(update={"is_leased": is_leased, "work": work})

    def spec(self, name: str) -> StudySpec:
        """Return the study's document, without opening it. Raises `StudyNotFoundError`."""
        with self._lock:
            return self._find(name).spec

    def uid(self, name: str) -> str:
        """Return the study's unique id. Raises `StudyNotFoundError`."""
        with self._lock:
            return self._find(name).uid

    def trials(
        self,
        name: str,
        *,
        states: Collection[TrialState] | None = None,
        numbers: Collection[int] | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Sequence[Trial]:
        """Return the trials of a study, without opening it; see `StudyRecords.trials`."""
        with self._lock:
            found = [trial for _, trial in sorted(self._find(name).trials.items())]
        if states is not None:
            found = [trial for trial in found if trial.state in states]
        if numbers is not None:
            found = [trial for trial in found if trial.number in numbers]
        return found[offset:] if limit is None else found[offset : offset + limit]

    def times(self, name: str, *, numbers: Collection[int] | None = None) -> StudyTimes:
        """Return the timestamps of a study and its trials; see `StudyRecords.times`."""
        with self._lock:
            study = self._find(name)
            times = {number: times for number, times in study.times.items() if numbers is None or number in numbers}
            return StudyTimes(created_at=study.created_at, trials=times)

    def digest(self, name: str) -> StudyDigest:
        """Return the trials of a study in numbers. Raises `StudyNotFoundError`."""
        with self._lock:
            return StudyDigest.of(self.trials(name), self.times(name))

    def rows(self, name: str) -> Sequence[TrialRow]:
        """Return a little of every trial, in order of their numbers. Raises `StudyNotFoundError`."""
        with self._lock:
            return rows_of(self.trials(name), self.times(name), self.spec(name).metric)

    def front(self, name: str, fidelity: Fidelity, axis: Axis) -> FrontNumbers:
        """Return the front of the complete trials of a fidelity; see `StudyRecords.front`."""
        with self._lock:
            metric = self.spec(name).metric
            found = [t for t in self.trials(name) if t.fidelity is fidelity and t.cost.along(axis) is not None]
        candidates = [trial for trial in found if has_score(trial, metric)]
        on_front = pareto_front([(metric.score(trial.metrics), cost_along(trial, axis)) for trial in candidates])
        return FrontNumbers(
            front=tuple(candidates[i].number for i in on_front),
            proposal=min((trial.number for trial in candidates if trial.origin is Origin.SEARCH), default=None),
        )

    def spans(self, name: str, fidelity: Fidelity) -> Sequence[Span]:
        """Return when the measurements of a fidelity were taken; see `StudyRecords.spans`."""
        with self._lock:
            return spans_of(self.trials(name), fidelity, self.times(name))

    def summaries(self, *, newest: int | None = None) -> Sequence[StudySummary]:
        """Return all studies, or the newest so many, oldest first."""
        with self._lock:
            names = list(self._studies)
            return [self._summary(name) for name in (names if newest is None else names[max(0, len(names) - newest) :])]

    def _summary(self, name: str) -> StudySummary:
        spec, trials = self.spec(name), self.trials(name)
        front = study_front(trials, axis=spec.budget.axis, metric=spec.metric)
        best = max((spec.metric.score(trial.metrics) for trial in front.candidates), default=None)
        return StudySummary(
            spec=spec,
            condition=self.condition(name),
            num_trials=len(trials),
            best=None if best is None else spec.metric.of_score(best),
        )

    def studies(self) -> Sequence[str]:
        """Return the names of all studies, oldest first."""
        with self._lock:
            return list(self._studies)

    def _find(self, name: str) -> StoredStudy:
        if name not in self._studies:
            raise driver_errors.not_found(name, where=WHERE, names=list(reversed(self._studies)))
        return self._studies[name]
