"""What is known of a study without reading every trial: counts, scores and times."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from sparsesearch.study.metric import Metric
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StudyCondition
from sparsesearch.study.trial import Axis, Fidelity, Origin, StudyTimes, Trial, TrialState, TrialTimes
from sparsesearch.value import Value


class TrialCount(Value):
    """The number of trials of one fidelity in one state, which is not 0."""

    fidelity: Fidelity
    state: TrialState
    count: int


class StudyDigest(Value):
    """The trials of a study in numbers.

    Attributes:
        counts: Number of trials by fidelity and state.
        num_retried: Number of trials that needed another attempt.
        last_failed: Number of the trial that failed last; None if none has failed.
        last_retried: Number of the trial that ended, or else started, last of those that needed another attempt.
        last_event_at: Unix time at which a trial started or ended last, or an unfinished one was measured; before that,
            the time when the study was created.
    """

    counts: tuple[TrialCount, ...] = ()
    num_retried: int = 0
    last_failed: int | None = None
    last_retried: int | None = None
    last_event_at: float

    @property
    def num_trials(self) -> int:
        """Number of all trials."""
        return sum(one.count for one in self.counts)

    def number(self, *, fidelity: Fidelity | None = None, where: Callable[[TrialState], bool] = lambda _: True) -> int:
        """Number of trials of a fidelity, by default of all, in the states that `where` accepts."""
        return sum(one.count for one in self.counts if fidelity in (None, one.fidelity) and where(one.state))

    @classmethod
    def of(cls, trials: Sequence[Trial], times: StudyTimes) -> StudyDigest:
        """The digest of trials that are at hand."""
        counts = Counter((trial.fidelity, trial.state) for trial in trials)
        retried = [trial for trial in trials if trial.attempt > 1]
        return cls(
            counts=tuple(
                TrialCount(fidelity=fidelity, state=state, count=count)
                for (fidelity, state), count in sorted(counts.items())
            ),
            num_retried=len(retried),
            last_failed=_last((trial for trial in trials if trial.state is TrialState.FAILED), times),
            last_retried=_last(retried, times),
            last_event_at=max([times.created_at, *_events(trials, times)]),
        )


class FrontNumbers(Value):
    """The front of the complete trials of one fidelity.

    Attributes:
        front: Numbers of the trials that no other dominates, cheapest first; see `pareto_front`.
        proposal: The lowest number of a trial that the search proposed; None if there is none, so that the fidelity has
            no front of its own.
    """

    front: tuple[int, ...] = ()
    proposal: int | None = None


class TrialRow(NamedTuple):
    """What curves, counts and sums show of a trial: little enough to read of every trial of a large study.

    Attributes:
        number: Its number.
        fidelity: Its fidelity.
        origin: Its origin.
        state: Its state.
        parent: Number of the trial that it continues.
        score: See `Metric.score`; None if it was not measured, or is not finite.
        macs: Its multiply-adds.
        ms: Its measured, else its predicted latency, in milliseconds.
        started_at: Unix time of its first claim.
        ended_at: Unix time of its end.
        measured_at: Unix time of its last measurement.
        epochs: Number of its measurements after an epoch.
        seconds: Sum of the seconds of its measurements.
    """

    number: int
    fidelity: Fidelity
    origin: Origin
    state: TrialState
    parent: int | None
    score: float | None
    macs: int
    ms: float | None
    started_at: float | None
    ended_at: float | None
    measured_at: float | None
    epochs: int
    seconds: float

    def cost_along(self, axis: Axis) -> float:
        """Its cost; infinite if unknown."""
        return float(self.macs) if axis == "macs" else math.inf if self.ms is None else self.ms


class Span(NamedTuple):
    """When a measurement was taken.

    Attributes:
        step: Its step.
        seconds: How long it took.
        measured_at: Unix time when it was recorded.
    """

    step: int
    seconds: float
    measured_at: float


class StudySummary(Value):
    """What a list of studies shows of one.

    Attributes:
        spec: Its document.
        condition: Its stored state, and what is known with it.
        num_trials: Number of its trials.
        best: The best value of its metric at the highest fidelity that has a front; None without a front.
    """

    spec: StudySpec
    condition: StudyCondition
    num_trials: int
    best: float | None

    def document(self) -> dict[str, object]:
        """The object that `studies --json` prints."""
        spec = self.spec
        return {
            "study": spec.name,
            "state": self.condition.word.upper(),
            "backbone": spec.backbone,
            "budget": str(spec.budget),
            "data": spec.data.source,
            "trials": self.num_trials,
            f"best_{spec.metric.name}": self.best,
            "meaningful": spec.meaningful,
        }


def rows_of(trials: Iterable[Trial], times: StudyTimes, metric: Metric) -> list[TrialRow]:
    """The rows of trials that are at hand, in their order."""
    return [_row(trial, times.trials.get(trial.number, TrialTimes()), metric) for trial in trials]


def _row(trial: Trial, times: TrialTimes, metric: Metric) -> TrialRow:
    score = metric.score(trial.metrics)
    return TrialRow(
        number=trial.number,
        fidelity=trial.fidelity,
        origin=trial.origin,
        state=trial.state,
        parent=trial.parent,
        score=score if math.isfinite(score) else None,
        macs=trial.cost.macs,
        ms=trial.cost.ms,
        started_at=times.started_at,
        ended_at=times.ended_at,
        measured_at=max(times.measured_at.values(), default=None),
        epochs=sum(measurement.step > 0 for measurement in trial.measurements),
        seconds=sum(measurement.seconds for measurement in trial.measurements),
    )


def spans_of(trials: Iterable[Trial], fidelity: Fidelity, times: StudyTimes) -> list[Span]:
    """The spans of the measurements of trials that are at hand, by number and step."""
    return [
        Span(measurement.step, measurement.seconds, at)
        for trial in trials
        for measurement in trial.measurements
        if measurement.fidelity is fidelity and (at := _measured_at(trial, times).get(measurement.step)) is not None
    ]


def _measured_at(trial: Trial, times: StudyTimes) -> dict[int, float]:
    found = times.trials.get(trial.number)
    return {} if found is None else found.measured_at


def _last(trials: Iterable[Trial], times: StudyTimes) -> int | None:
    def when(trial: Trial) -> float:
        found = times.trials.get(trial.number)
        return 0.0 if found is None else found.ended_at or found.started_at or 0.0

    last = max(trials, key=when, default=None)
    return None if last is None else last.number


def _events(trials: Iterable[Trial], times: StudyTimes) -> Iterable[float]:
    for trial in trials:
        found = times.trials.get(trial.number)
        if found is None:
            continue
        measured = () if trial.state.is_final else found.measured_at.values()
        yield from (at for at in (found.started_at, found.ended_at, *measured) if at is not None)
