"""Time and trials spent by a study, by phase."""

from __future__ import annotations

from dataclasses import dataclass

from sparsesearch.analysis.phases import PHASE_NAMES
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.trial import Trial, TrialState


@dataclass(frozen=True)
class PhaseSpending:
    """The trials of one phase.

    Attributes:
        name: Display name of the phase.
        trials: Number of trials.
        complete: How many of them completed.
        stopped: How many a rung stopped early.
        failed: How many failed permanently.
        epochs: Number of epochs trained.
        work_s: Total seconds of all measurements; exceeds wall-clock time where trials run in parallel.
        span_s: Seconds from the start of the first trial to the end of the last; None if no times were recorded.
    """

    name: str
    trials: int
    complete: int
    stopped: int
    failed: int
    epochs: int
    work_s: float
    span_s: float | None


def spending(view: StudyView) -> tuple[PhaseSpending, ...]:
    """The phases that have started, in order."""
    found = []
    for fidelity, name in PHASE_NAMES.items():
        trials = [trial for trial in view.trials if trial.fidelity is fidelity]
        if not trials:
            continue
        states = [trial.state for trial in trials]
        measurements = [measurement for trial in trials for measurement in trial.measurements]
        found.append(
            PhaseSpending(
                name=name,
                trials=len(trials),
                complete=sum(state in (TrialState.COMPLETE, TrialState.REFERENCE) for state in states),
                stopped=states.count(TrialState.STOPPED),
                failed=states.count(TrialState.FAILED),
                epochs=sum(measurement.step > 0 for measurement in measurements),
                work_s=sum(measurement.seconds for measurement in measurements),
                span_s=_span(view, trials),
            )
        )
    return tuple(found)


def _span(view: StudyView, trials: list[Trial]) -> float | None:
    times = [view.times_of(trial) for trial in trials]
    starts = [time.started_at for time in times if time.started_at is not None]
    ends = [at for time in times for at in (time.ended_at, *time.measured_at.values()) if at is not None]
    return max(0.0, max(ends) - min(starts)) if starts and ends else None
