"""The state of a running study, kept in memory by the process that runs it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum, auto

from sparsesearch.analysis.status import StudyStatus
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.progress import WorkProgress
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StudyCondition, StudyState
from sparsesearch.study.trial import StudyTimes, Trial, TrialState, TrialTimes

_RUNNING = StudyCondition(state=StudyState.RUNNING, is_leased=True)


class Change(Enum):
    """What happened to a trial."""

    STARTED = auto()
    MEASURED = auto()
    ENDED = auto()


class StudyWatch:
    """Keeps track of the trials of a running study without querying the database. Thread-safe.

    Args:
        view: The study at the start of this run.
        work: Returns the work under way.
        clock: Clock, in seconds since 1970.
    """

    def __init__(
        self,
        view: StudyView,
        *,
        work: Callable[[], Sequence[WorkProgress]] = tuple,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._view = replace(view, condition=_RUNNING)
        self._work = work
        self._is_current = True
        self._trials = {trial.number: trial for trial in view.trials}
        self._times = dict(view.times.trials)
        self._begun: set[tuple[int, int]] = set()
        self._clock = clock
        self._lock = threading.Lock()

    @property
    def spec(self) -> StudySpec:
        """The study's document."""
        return self._view.spec

    def take(self, trial: Trial) -> Change | None:
        """Update a trial to its newly recorded state; return what changed, None if nothing did."""
        now = self._clock()
        with self._lock:
            before = self._trials.get(trial.number)
            times = self._times.get(trial.number, TrialTimes())
            self._trials[trial.number] = trial
            self._times[trial.number] = TrialTimes(
                started_at=now if times.started_at is None else times.started_at,
                ended_at=now if trial.state.is_final and times.ended_at is None else times.ended_at,
                measured_at={m.step: times.measured_at.get(m.step, now) for m in trial.measurements},
            )
            self._is_current = False
            if trial.state.is_final:
                return Change.ENDED
            if len(trial.measurements) > (0 if before is None else len(before.measurements)):
                return Change.MEASURED
            if trial.state is not TrialState.RUNNING or (trial.number, trial.attempt) in self._begun:
                return None
            self._begun.add((trial.number, trial.attempt))
            return Change.STARTED

    def status(self) -> StudyStatus:
        """Return the current status of the study."""
        with self._lock:
            if not self._is_current:
                trials = tuple(trial for _, trial in sorted(self._trials.items()))
                times = StudyTimes(created_at=self._view.times.created_at, trials=dict(self._times))
                self._view = StudyView(spec=self._view.spec, trials=trials, times=times, condition=_RUNNING)
                self._is_current = True
            view = self._view
        status = StudyStatus.of(view, now=self._clock())
        return replace(status, condition=_RUNNING.model_copy(update={"work": tuple(self._work())}))
