"""The list of studies, and the form that adds one."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from sparsesearch.catalog.records import catalog
from sparsesearch.errors import SparseSearchError
from sparsesearch.service.access import Reader, Submitter
from sparsesearch.service.pages.flash import Flash, back_to
from sparsesearch.service.pages.forms import FormOf
from sparsesearch.service.pages.progress import listed
from sparsesearch.service.pages.rendering import page
from sparsesearch.service.pages.route import PageProblem, PageRoute, problem_of
from sparsesearch.service.pages.submission import FIELDS, STRATEGIES, UNITS, requested
from sparsesearch.service.parts import OptionsOf, WorkspaceOf
from sparsesearch.service.routes.studies import submit as submit_by_api
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.access import Scope, Token

router = APIRouter(route_class=PageRoute)
AT_ONCE = 25

Offset = Annotated[int, Query(ge=0, le=10_000_000)]
Refresh = Annotated[int, Query(ge=0, le=3600, description="Seconds after which the page is loaded again; 0 for never.")]


@router.get("/")
def show(
    request: Request,
    token: Reader,
    workspace: WorkspaceOf,
    offset: Offset = 0,
    refresh: Refresh = 0,
    part: Annotated[str | None, Query()] = None,
) -> Response:
    """List studies, newest first."""
    return _list(request, token, workspace.store, offset=offset, refresh=refresh, is_part=part is not None)


@router.post("/studies")
async def submit(
    request: Request, token: Submitter, form: FormOf, workspace: WorkspaceOf, options: OptionsOf, response: Response
) -> Response:
    """Submit a study as the API does; show the form again with what is wrong."""
    try:
        condition = await run_in_threadpool(lambda: submit_by_api(requested(form), token, workspace, options, response))
    except (SparseSearchError, HTTPException) as error:
        found = await problem_of(request, error)
        if found.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        return await run_in_threadpool(_list, request, token, workspace.store, form=form, problem=found)
    return back_to(request, f"/studies/{condition.study}", Flash("done", f"Study {condition.study} was submitted."))


def _list(
    request: Request,
    token: Token,
    store: SqlStore,
    *,
    offset: int = 0,
    refresh: int = 0,
    is_part: bool = False,
    form: dict[str, str] | None = None,
    problem: PageProblem | None = None,
) -> Response:
    total = store.count_studies()
    found = listed(store, limit=AT_ONCE, offset=offset)
    following = offset + len(found)
    return page(
        request,
        "_studies.html" if is_part else "studies.html",
        code=HTTPStatus.OK if problem is None else problem.status,
        studies=found,
        total=total,
        offset=offset,
        newer=None if offset == 0 else max(0, offset - AT_ONCE),
        older=following if following < total and found else None,
        refresh=refresh,
        may_submit=token.scope.includes(Scope.SUBMIT),
        form={name: (form or {}).get(name, "") for name in FIELDS},
        error=None if problem is None else problem.line,
        units=UNITS,
        strategies=STRATEGIES,
        backbones=sorted(catalog().aliases),
    )
