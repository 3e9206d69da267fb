"""Trials and fronts as pandas frames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sparsesearch.analysis.study_front import StudyFront
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.trial import Trial

if TYPE_CHECKING:
    import pandas as pd


def trials_frame(view: StudyView) -> pd.DataFrame:
    """All trials of a study, indexed by number."""
    return _frame(view, view.trials)


def front_frame(view: StudyView, front: StudyFront) -> pd.DataFrame:
    """The trials of a front, cheapest first, indexed by number."""
    return _frame(view, front.points)


def _frame(view: StudyView, trials: Iterable[Trial]) -> pd.DataFrame:
    """One row for each trial: what was run, its cost, and its metrics."""
    import pandas as pd

    dense = view.front.reference
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.value,
            "fidelity": trial.fidelity.value,
            "label": trial.label,
            "schedule": view.schedule_text(trial),
            "gmacs": trial.cost.macs / 1e9,
            "of_dense": None if dense is None else trial.cost.macs / dense.cost.macs,
            "ms": trial.cost.ms,
            **trial.metrics,
        }
        for trial in trials
    ]
    columns = ["trial", "state", "fidelity", "label", "schedule", "gmacs", "of_dense", "ms"]
    return pd.DataFrame(rows, columns=None if rows else columns).set_index("trial")
