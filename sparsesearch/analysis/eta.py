"""How long a study will still take, judged by how long it took so far."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sparsesearch.analysis.phases import Phase
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.trial import Fidelity, Trial

_WORK = {
    Fidelity.DENSE: "dense",
    Fidelity.SUPERNET_TRAINING: "supernet_training",
    Fidelity.UNTRAINED: "screen",
    Fidelity.SUPERNET: "screen",
    Fidelity.FINETUNE: "finetune",
}
_LEAST_EVALUATIONS = 3
_BRIDGED_S = 5.0


def seconds_left(view: StudyView, phases: Sequence[Phase], *, now: float) -> float | None:
    """About how long a study that is being run will still take; None where nothing can be told.

    The phase under way goes on at the speed it had. A phase to come takes as long as the plan's share of the work says,
    at the speed of what was done. Time in which nothing ran, and trainings that were taken over from an earlier study,
    tell nothing of the speed. A time budget is a limit, and all that is known where no speed is.

    Args:
        view: The study.
        phases: Its phases in order.
        now: Seconds since 1970.
    """
    estimate = _estimate(view, phases, now=now)
    budget = view.spec.time_budget_s
    if budget is None or (in_time := view.times.created_at + budget - now) <= 0:
        return estimate
    return in_time if estimate is None else min(estimate, in_time)


def _estimate(view: StudyView, phases: Sequence[Phase], *, now: float) -> float | None:
    work = view.spec.resolved.planned_work if view.spec.resolved is not None else {}
    seconds, seen = 0.0, 0.0
    left: float | None = 0.0
    ahead = 0.0
    for phase in phases:
        trials = [trial for trial in view.trials if trial.fidelity is phase.fidelity]
        planned = work.get(_WORK[phase.fidelity])
        spent = _spent(view, trials) if _is_telling(phase) else 0.0
        if spent and planned is not None:
            seconds += spent
            seen += planned * phase.share
        if phase.is_over:
            continue
        if spent:
            rest = spent * (1 - phase.share) / phase.share - (now - _last_mark(view, trials, now=now))
            left = None if left is None else left + max(0.0, rest)
        elif planned is None:
            left = None
        else:
            ahead += planned
    if left is None or (ahead and not seen):
        return None
    return left + ahead * (seconds / seen if seen else 0.0)


def _is_telling(phase: Phase) -> bool:
    """Whether enough of a phase is done to judge its speed."""
    if phase.epochs is None:
        return phase.done >= min(_LEAST_EVALUATIONS, phase.total)
    return phase.epochs_done > 0


def _spent(view: StudyView, trials: Iterable[Trial]) -> float:
    """Seconds in which at least one of these trials was at work, breaks of some seconds included."""
    spans = []
    for trial in trials:
        measured_at = view.times_of(trial).measured_at
        for measurement in trial.measurements:
            is_given = trial.fidelity is Fidelity.DENSE and measurement.step == 0
            if measurement.step in measured_at and measurement.seconds > 0.0 and not is_given:
                end = measured_at[measurement.step]
                spans.append((end - measurement.seconds, end))
    spent = 0.0
    last: float | None = None
    for start, end in sorted(spans):
        if last is None or start > last + _BRIDGED_S:
            spent += end - start
        else:
            spent += max(0.0, end - last)
        last = end if last is None else max(last, end)
    return spent


def _last_mark(view: StudyView, trials: Iterable[Trial], *, now: float) -> float:
    """When the newest measurement was recorded."""
    marks = [at for trial in trials for at in view.times_of(trial).measured_at.values()]
    return max(marks, default=now)
