"""The best trial of a study that has none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from study_views import dense, trial, view_of

from sparsesearch.artifacts.from_study import best_trial
from sparsesearch.errors import StudyFailedError
from sparsesearch.study.state import StudyCondition, StudyState
from sparsesearch.study.trial import TrialState


@pytest.mark.parametrize(
    ("state", "advice"),
    [(StudyState.PAUSED, "sparsesearch resume "), (StudyState.FINISHED, "1 trial failed.*sparsesearch retry ")],
)
def test_without_a_candidate_it_says_what_helps(state: StudyState, advice: str) -> None:
    failed = trial(1, 500, 0.4).model_copy(update={"state": TrialState.FAILED, "measurements": ()})
    view = view_of([dense(), failed])
    view = replace(view, condition=StudyCondition(state=state))
    with pytest.raises(StudyFailedError, match=advice):
        best_trial(view)
