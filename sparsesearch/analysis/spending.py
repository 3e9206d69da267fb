"""What a study cost."""

from __future__ import annotations

from dataclasses import dataclass

from sparsesearch.analysis.phases import PHASE_NAMES
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.trial import Trial, TrialState


@dataclass(frozen=True)
class PhaseSpending:
    """The trials of one phase.

    Attributes:
        name: What people call the phase.
        trials: How many there are.
        complete: How many of them came to their end.
        stopped: How many a rung stopped early.
        failed: How many failed for good.
        epochs: Epochs that were trained.
        work_s: Seconds of all measurements together; where trials run side by side, more than passed on the clock.
        span_s: Seconds from the beginning of the first trial to the end of the last; None where no clock was recorded.
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
    """The phases that have begun, in their order."""
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
