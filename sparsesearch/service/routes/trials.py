"""The trials of a study."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from sparsesearch.analysis.words import accuracy_warning
from sparsesearch.service.access import Reader
from sparsesearch.service.parts import RememberedOf, StudyName, WorkspaceOf
from sparsesearch.service.problems import responses
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.trial import TrialState

router = APIRouter(tags=["studies"])


class TrialPage(BaseModel):
    """Trials in order of their numbers, as `sparsesearch trials --json` prints them."""

    trials: list[dict[str, Any]]
    total: int
    next_offset: int | None


@router.get("/studies/{name}/trials", response_model=TrialPage, responses=responses(404))
def list_trials(
    name: StudyName,
    _: Reader,
    workspace: WorkspaceOf,
    remembered: RememberedOf,
    state: Annotated[list[TrialState] | None, Query(description="Only trials in these states.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Response:
    """List the trials of a study."""
    states = tuple(sorted(set(state or ())))

    def make() -> bytes:
        return _page(workspace.store, name, states, limit=limit, offset=offset).model_dump_json().encode()

    key = "trials", name, workspace.store.version(name), states, limit, offset
    return Response(remembered.of(key, make), media_type="application/json")


def _page(store: SqlStore, name: str, states: tuple[TrialState, ...], *, limit: int, offset: int) -> TrialPage:
    spec = store.spec(name)
    found = store.trials(name, states=states or None, offset=offset, limit=limit)
    total = store.digest(name).number(where=lambda one: not states or one in states)
    following = offset + len(found)
    return TrialPage(
        trials=[{**trial.public(), **accuracy_warning(spec)} for trial in found],
        total=total,
        next_offset=following if found and following < total else None,
    )
