"""The trials of a study."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from sparsesearch.analysis.words import accuracy_warning
from sparsesearch.service.access import Reader
from sparsesearch.service.parts import StudyName, WorkspaceOf
from sparsesearch.service.problems import responses
from sparsesearch.study.trial import TrialState

router = APIRouter(tags=["studies"])


class TrialPage(BaseModel):
    """Trials in order of their numbers, as `sparsesearch trials --json` prints them."""

    trials: list[dict[str, Any]]
    total: int
    next_offset: int | None


@router.get("/studies/{name}/trials", responses=responses(404))
def list_trials(
    name: StudyName,
    _: Reader,
    workspace: WorkspaceOf,
    state: Annotated[list[TrialState] | None, Query(description="Only trials in these states.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> TrialPage:
    """List the trials of a study."""
    store = workspace.store
    spec = store.spec(name)
    found = store.trials(name, states=state or None, offset=offset, limit=limit)
    total = store.digest(name).number(where=lambda one: not state or one in state)
    following = offset + len(found)
    return TrialPage(
        trials=[{**trial.public(), **accuracy_warning(spec)} for trial in found],
        total=total,
        next_offset=following if found and following < total else None,
    )
