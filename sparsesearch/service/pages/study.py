"""The page of a study: its state, progress and front, and the forms that stop, resume, change and delete it."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from sparsesearch.app.best_model import MODEL
from sparsesearch.app.read_status import read_status
from sparsesearch.app.run_arguments import parse_duration
from sparsesearch.errors import printable
from sparsesearch.service.access import Reader, Submitter
from sparsesearch.service.event_feed import event_id
from sparsesearch.service.pages.flash import Flash, back_to
from sparsesearch.service.pages.forms import FormOf
from sparsesearch.service.pages.fronts import FrontCache
from sparsesearch.service.pages.queue_places import queue_places
from sparsesearch.service.pages.rendering import page
from sparsesearch.service.pages.route import ActionRoute, PageRoute
from sparsesearch.service.pages.studies import Refresh
from sparsesearch.service.pages.submission import whole_number
from sparsesearch.service.parts import OptionsOf, StudyName, WorkspaceOf
from sparsesearch.service.result_files import result_file
from sparsesearch.service.routes import studies as api
from sparsesearch.study.access import Scope, Token
from sparsesearch.study.state import StudyCondition, StudyState
from sparsesearch.study.submission import Submission
from sparsesearch.visualize.best import KEPT_TOKENS

router = APIRouter(route_class=PageRoute)
actions = APIRouter(route_class=ActionRoute)

Part = Literal["status", "actions", "front", "schedule"]
_PAGES: dict[Part | None, str] = {
    None: "study.html",
    "status": "_status.html",
    "actions": "_actions.html",
    "front": "_front.html",
    "schedule": "_best.html",
}


@router.get("/studies/{name}")
async def show(
    request: Request,
    name: StudyName,
    token: Reader,
    workspace: WorkspaceOf,
    options: OptionsOf,
    part: Annotated[Part | None, Query()] = None,
    refresh: Refresh = 15,
) -> Response:
    """Show a study, or the part of its page that a script loads again."""
    fronts: FrontCache = request.app.state.fronts
    last = await run_in_threadpool(workspace.store.last_change, name)  # what changes from here on is an event
    front = await fronts.front(workspace.store, name)

    def made() -> Response:
        store = workspace.store
        status, submission = read_status(store, name), store.queue.submission(name)
        state = status.condition.state
        return page(
            request,
            _PAGES[part],
            name=name,
            spec=status.spec,
            status=status,
            condition=status.condition,
            submission=submission,
            place=queue_places(store).get(name) if state is StudyState.QUEUED else None,
            actions=allowed(status.condition, submission, token),
            front=front,
            has_model=result_file(store, options.results, name, MODEL) is not None,
            has_picture=result_file(store, options.results, name, KEPT_TOKENS) is not None,
            change=event_id(last.uid, last.number),
            is_live=not (state.is_over or state is StudyState.FAILED),
            refresh=refresh,
        )

    return await run_in_threadpool(made)


def allowed(condition: StudyCondition, submission: Submission | None, token: Token) -> frozenset[str]:
    """What a token may do with a study in this state, of which it is shown buttons."""
    is_own = submission is not None and submission.owner == token.name
    if not (token.scope is Scope.ADMIN or (is_own and token.scope.includes(Scope.SUBMIT))):
        return frozenset()
    state, is_worked_on = condition.state, condition.state.is_active and condition.is_leased
    found = {
        "pause": state is StudyState.QUEUED or (is_worked_on and condition.request is None),
        "resume": not is_worked_on and not state.is_over and state is not StudyState.QUEUED,
        "cancel": not state.is_over,
        "change": not state.is_over,
        "delete": not is_worked_on,
    }
    return frozenset(name for name, is_allowed in found.items() if is_allowed)


@actions.post("/studies/{name}/pause")
def pause(request: Request, name: StudyName, token: Submitter, workspace: WorkspaceOf) -> Response:
    """Pause a study."""
    return _back(request, name, api.pause(name, token, workspace))


@actions.post("/studies/{name}/resume")
def resume(request: Request, name: StudyName, token: Submitter, workspace: WorkspaceOf) -> Response:
    """Put a study back into the queue."""
    return _back(request, name, api.resume(name, token, workspace))


@actions.post("/studies/{name}/cancel")
def cancel(request: Request, name: StudyName, token: Submitter, workspace: WorkspaceOf) -> Response:
    """Cancel a study for good."""
    return _back(request, name, api.cancel(name, token, workspace))


@actions.post("/studies/{name}/change")
def change(request: Request, name: StudyName, token: Submitter, form: FormOf, workspace: WorkspaceOf) -> Response:
    """Change priority, concurrency or time budget; empty fields leave them as they are."""
    patch = _patch(form)
    line = "Nothing was changed, as all fields were empty."
    if patch.model_dump(exclude_none=True):
        line = f"Changed. The priority is {api.change(name, patch, token, workspace).priority}."
    return back_to(request, f"/studies/{name}", Flash("done", line))


@actions.post("/studies/{name}/delete")
def delete(request: Request, name: StudyName, token: Submitter, workspace: WorkspaceOf) -> Response:
    """Delete a study."""
    api.delete(name, token, workspace)
    return back_to(request, "/", Flash("done", f"Study {name} was deleted."))


def _patch(form: dict[str, str]) -> api.Patch:
    limit = form.get("time_budget")
    try:
        return api.Patch(
            priority=whole_number(form.get("priority"), what="priority"),
            max_concurrent=whole_number(form.get("max_concurrent"), what="max_concurrent"),
            time_budget_s=parse_duration(limit) if limit else None,
        )
    except ValidationError as error:
        found = error.errors()[0]
        raise HTTPException(422, printable(f"{found['loc'][0]}: {found['msg']}")) from error


def _back(request: Request, name: str, found: api.Condition) -> Response:
    """The way back to a study with a line that says what is done, or will be."""
    asked = "" if found.request is None else f"; it will {found.request} after the step under way"
    return back_to(request, f"/studies/{name}", Flash("done", f"The study is {found.state.lower()}{asked}."))
