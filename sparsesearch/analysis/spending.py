"""Time and trials spent by a study, by phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparsesearch.analysis.phases import PHASE_NAMES
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.digest import TrialRow
from sparsesearch.study.trial import TrialState


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
        rows = [row for row in view.rows if row.fidelity is fidelity]
        if not rows:
            continue
        states = [row.state for row in rows]
        found.append(
            PhaseSpending(
                name=name,
                trials=len(rows),
                complete=sum(state in (TrialState.COMPLETE, TrialState.REFERENCE) for state in states),
                stopped=states.count(TrialState.STOPPED),
                failed=states.count(TrialState.FAILED),
                epochs=sum(row.epochs for row in rows),
                work_s=sum(row.seconds for row in rows),
                span_s=_span(rows),
            )
        )
    return tuple(found)


def _span(rows: Sequence[TrialRow]) -> float | None:
    starts = [row.started_at for row in rows if row.started_at is not None]
    ends = [at for row in rows for at in (row.ended_at, row.measured_at) if at is not None]
    return max(0.0, max(ends) - min(starts)) if starts and ends else None
