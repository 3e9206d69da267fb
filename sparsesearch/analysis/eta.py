"""Estimated remaining time of a study, extrapolated from its speed so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sparsesearch.analysis.phases import Phase
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.digest import Span
from sparsesearch.study.trial import Fidelity

_WORK = {
    Fidelity.DENSE: "dense",
    Fidelity.SUPERNET_TRAINING: "supernet_training",
    Fidelity.COUNTS: "counts",
    Fidelity.UNTRAINED: "screen",
    Fidelity.SUPERNET: "screen",
    Fidelity.RESCORED: "rescore",
    Fidelity.FINETUNE: "finetune",
}
_MIN_EVALUATIONS = 3
_MAX_GAP_S = 5.0


Spans = Callable[[Fidelity], Iterable[Span]]
"""When the measurements of a fidelity were taken."""


def seconds_left(view: StudyView, phases: Sequence[Phase], spans: Spans, *, now: float) -> float | None:
    """Estimate the remaining seconds of a running study; None if there is no basis for an estimate.

    The current phase is extrapolated at its own speed. A future phase takes its planned amount of work at the average
    speed so far. Idle time and training reused from an earlier study do not count towards the speed. A time budget
    caps the estimate, and replaces it while no speed is known.

    Args:
        view: The study.
        phases: Its phases in order.
        spans: When its measurements were taken.
        now: Unix time in seconds.
    """
    estimate = _estimate(view, phases, spans, now=now)
    budget = view.spec.time_budget_s
    if budget is None or (time_left := view.times.created_at + budget - now) <= 0:
        return estimate
    return time_left if estimate is None else min(estimate, time_left)


def _estimate(view: StudyView, phases: Sequence[Phase], spans: Spans, *, now: float) -> float | None:
    work = view.spec.resolved.planned_work if view.spec.resolved is not None else {}
    seconds, seen = 0.0, 0.0
    left: float | None = 0.0
    ahead = 0.0
    for phase in phases:
        planned = work.get(_WORK[phase.fidelity])
        taken = list(spans(phase.fidelity)) if _has_speed(phase) else []
        spent = _spent(taken, phase.fidelity)
        if spent and planned is not None:
            seconds += spent
            seen += planned * phase.share
        if phase.is_over:
            continue
        if spent:
            rest = spent * (1 - phase.share) / phase.share - (now - max(span.measured_at for span in taken))
            left = None if left is None else left + max(0.0, rest)
        elif planned is None:
            left = None
        else:
            ahead += planned
    if left is None or (ahead and not seen):
        return None
    return left + ahead * (seconds / seen if seen else 0.0)


def _has_speed(phase: Phase) -> bool:
    """Whether enough of a phase is done to estimate its speed."""
    if phase.epochs is None:
        return phase.done >= min(_MIN_EVALUATIONS, phase.total)
    return phase.epochs_done > 0


def _spent(taken: Iterable[Span], fidelity: Fidelity) -> float:
    """Seconds during which at least one of these measurements was taken; short gaps count as well."""
    spans = [
        (one.measured_at - one.seconds, one.measured_at)
        for one in taken
        if one.seconds > 0.0 and not (fidelity is Fidelity.DENSE and one.step == 0)  # such a model was loaded
    ]
    spent = 0.0
    last: float | None = None
    for start, end in sorted(spans):
        if last is None or start > last + _MAX_GAP_S:
            spent += end - start
        else:
            spent += max(0.0, end - last)
        last = end if last is None else max(last, end)
    return spent
