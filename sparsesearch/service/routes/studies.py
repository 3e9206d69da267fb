"""Studies: submit, list, show, change, stop and delete them."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Query, Response
from fastapi.openapi.models import Example
from pydantic import BaseModel, ConfigDict, Field

from sparsesearch.app.delete_study import delete_study
from sparsesearch.app.read_status import read_status
from sparsesearch.app.submit_study import submit_study
from sparsesearch.service.access import Reader, Submitter, actor, check_owner
from sparsesearch.service.confine import confined
from sparsesearch.service.parts import OptionsOf, RememberedOf, StudyName, WorkspaceOf
from sparsesearch.service.problems import responses
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.digest import StudySummary
from sparsesearch.study.state import StopRequest, StudyCondition
from sparsesearch.study.submission import Changes, Submission

router = APIRouter(tags=["studies"])
_LIST_S = 1.0

_EXAMPLES: dict[str, Example] = {
    "budget in percent": {
        "summary": "60 % of the dense cost, on the bundled data",
        "value": {"backbone": "deit_pico", "budget": "60%"},
    },
    "own data": {
        "summary": "A front on own data, with a name and a higher priority",
        "value": {
            "name": "flowers",
            "backbone": "deit_s",
            "budget": {"unit": "gflops", "low": 2.0, "high": 3.5},
            "data": {"source": "folder:/data/flowers"},
            "time_budget_s": 7200,
            "priority": 5,
        },
    },
}


class Queued(BaseModel):
    """The place of a study in the queue."""

    owner: str
    priority: int
    submitted_at: float
    max_concurrent: int | None = None
    time_budget_s: float | None = None

    @classmethod
    def of(cls, found: Submission | None) -> Queued | None:
        """That of a submission; None for a study that was started elsewhere."""
        if found is None:
            return None
        return cls(
            owner=found.owner,
            priority=found.priority,
            submitted_at=found.submitted_at,
            max_concurrent=found.changes.max_concurrent,
            time_budget_s=found.changes.time_budget_s,
        )


class StudyLine(BaseModel):
    """A study in a list."""

    study: str
    state: str = Field(examples=["RUNNING"])
    is_interrupted: bool
    backbone: str
    budget: str
    data: str
    trials: int
    best: float | None
    metric: str
    meaningful: bool
    queue: Queued | None

    @classmethod
    def of(cls, found: StudySummary, submission: Submission | None) -> StudyLine:
        """That of a summary."""
        spec = found.spec
        return cls(
            study=spec.name,
            state=found.condition.state.value,
            is_interrupted=found.condition.is_interrupted,
            backbone=spec.backbone,
            budget=str(spec.budget),
            data=spec.data.source,
            trials=found.num_trials,
            best=found.best,
            metric=spec.metric.name,
            meaningful=spec.meaningful,
            queue=Queued.of(submission),
        )


class StudyPage(BaseModel):
    """Studies, newest first."""

    studies: list[StudyLine]
    total: int
    next_offset: int | None


class Condition(BaseModel):
    """The state of a study."""

    study: str
    state: str
    reason: str | None = None
    request: str | None = None
    is_leased: bool = False

    @classmethod
    def of(cls, study: str, found: StudyCondition) -> Condition:
        """That of a stored condition."""
        return cls(
            study=study,
            state=found.state.value,
            reason=found.reason,
            request=None if found.request is None else found.request.value,
            is_leased=found.is_leased,
        )


class ShownStudy(Condition):
    """A study with its document and its progress."""

    queue: Queued | None
    spec: dict[str, Any]
    status: dict[str, Any] = Field(description="What `sparsesearch status --json` prints.")


class Patch(BaseModel):
    """What may be changed of a study, also while it runs: it then goes on with what is changed."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"priority": 10, "max_concurrent": 2}]})

    priority: int | None = Field(default=None, ge=-1000, le=1000)
    max_concurrent: int | None = Field(default=None, ge=1, le=10_000)
    time_budget_s: float | None = Field(default=None, gt=0.0, le=1e9)


@router.post("/studies", status_code=201, responses=responses(409))
def submit(
    document: Annotated[dict[str, Any], Body(openapi_examples=_EXAMPLES)],
    token: Submitter,
    workspace: WorkspaceOf,
    options: OptionsOf,
    response: Response,
) -> Condition:
    """Submit a study: the document of `sparsesearch run STUDY.yaml`, and optionally `priority` (-1000 to 1000).

    A budget may be `"35%"` or `"20%:45%"`. Files must be in folders that the operator has allowed; the bundled data is
    always allowed. The document is checked at once; the study is then QUEUED.
    """
    document = dict(document)
    priority = document.pop("priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > 1000:
        raise HTTPException(422, "priority must be an integer from -1000 to 1000")
    spec = submit_study(confined(document, options.data_roots), workspace, by=actor(token), priority=priority)
    response.headers["Location"] = f"/api/v1/studies/{spec.name}"
    return Condition.of(spec.name, workspace.store.condition(spec.name))


@router.get("/studies", response_model=StudyPage, responses=responses())
def list_studies(
    _: Reader,
    workspace: WorkspaceOf,
    remembered: RememberedOf,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Response:
    """List studies, newest first, as they were at most a second ago."""

    def make() -> bytes:
        return _page(workspace.store, limit=limit, offset=offset).model_dump_json().encode()

    key = "studies", int(time.monotonic() / _LIST_S), workspace.store.count_studies(), limit, offset
    return Response(remembered.of(key, make), media_type="application/json")


def _page(store: SqlStore, *, limit: int, offset: int) -> StudyPage:
    total = store.count_studies()
    found = list(reversed(store.summaries(newest=limit, skip=offset)))
    submissions = store.queue.submissions([one.spec.name for one in found])
    lines = [StudyLine.of(one, submissions.get(one.spec.name)) for one in found]
    following = offset + len(lines)
    return StudyPage(studies=lines, total=total, next_offset=following if following < total else None)


@router.get("/studies/{name}", responses=responses(404))
def show(name: StudyName, _: Reader, workspace: WorkspaceOf) -> ShownStudy:
    """Show a study: its document, its state, and its progress."""
    store = workspace.store
    found = read_status(store, name)
    condition = Condition.of(name, found.condition)
    return ShownStudy(
        **condition.model_dump(),
        queue=Queued.of(store.queue.submission(name)),
        spec=found.spec.model_dump(mode="json", exclude={"resolved"}),
        status=found.document(),
    )


@router.patch("/studies/{name}", responses=responses(404, 409))
def change(name: StudyName, patch: Patch, token: Submitter, workspace: WorkspaceOf) -> Queued:
    """Change priority, maximum number of concurrent trials, or time budget."""
    queue = workspace.store.queue
    check_owner(token, queue.submission(name), study=name)
    changes = Changes(max_concurrent=patch.max_concurrent, time_budget_s=patch.time_budget_s)
    shown = Queued.of(queue.change(name, changes, priority=patch.priority, by=actor(token)))
    assert shown is not None
    return shown


@router.delete("/studies/{name}", status_code=204, responses=responses(404, 409))
def delete(name: StudyName, token: Submitter, workspace: WorkspaceOf) -> None:
    """Delete a study with its trials and checkpoints. A study that runs is to be paused or cancelled first."""
    check_owner(token, workspace.store.queue.submission(name), study=name)
    delete_study(workspace, name, by=actor(token))


@router.post("/studies/{name}/pause", responses=responses(404, 409))
def pause(name: StudyName, token: Submitter, workspace: WorkspaceOf) -> Condition:
    """Pause a study after the epochs under way; its cores and GPUs are then free. A queued one leaves the queue."""
    return _requested(name, StopRequest.PAUSE, token, workspace)


@router.post("/studies/{name}/cancel", responses=responses(404, 409))
def cancel(name: StudyName, token: Submitter, workspace: WorkspaceOf) -> Condition:
    """Cancel a study for good; what was found remains."""
    return _requested(name, StopRequest.CANCEL, token, workspace)


@router.post("/studies/{name}/resume", responses=responses(404, 409))
def resume(name: StudyName, token: Submitter, workspace: WorkspaceOf) -> Condition:
    """Queue a study again that was paused, has failed, or lost its process; it goes on where it stopped."""
    queue = workspace.store.queue
    check_owner(token, queue.submission(name), study=name)
    return Condition.of(name, workspace.store.queue.enqueue(name, by=actor(token)))


def _requested(name: str, request: StopRequest, token: Submitter, workspace: WorkspaceOf) -> Condition:
    queue = workspace.store.queue
    check_owner(token, queue.submission(name), study=name)
    return Condition.of(name, queue.request(name, request, by=actor(token)))
