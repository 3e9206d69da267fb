"""The results of a study: front, report and recipe."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Annotated, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from sparsesearch.analysis.findings import Findings
from sparsesearch.analysis.view import StudyView
from sparsesearch.analysis.words import latency_cell
from sparsesearch.app.best_model import MODEL
from sparsesearch.app.read_front import FrontAxis, described, front_document, view_of_front
from sparsesearch.artifacts.from_study import best_trial, make_recipe
from sparsesearch.artifacts.recipe import recipe_text
from sparsesearch.errors import StudyFailedError
from sparsesearch.report.page import findings_page
from sparsesearch.service.access import Reader
from sparsesearch.service.parts import OptionsOf, RememberedOf, StudyName, WorkspaceOf
from sparsesearch.service.plain_data import finite
from sparsesearch.service.problems import responses
from sparsesearch.service.result_files import result_file
from sparsesearch.store.sql import SqlStore
from sparsesearch.visualize.best import KEPT_TOKENS

router = APIRouter(tags=["results"])

Axis = Annotated[FrontAxis | None, Query(description="Cost axis; by default the unit of the budget.")]
_MOST_WAITING = 16


@router.get(
    "/studies/{name}/front",
    responses={
        **responses(404, 409),
        200: {"content": {"application/json": {}, "text/csv": {}, "image/png": {}}, "description": "The front."},
    },
    response_model=None,
)
async def front(
    request: Request,
    name: StudyName,
    _: Reader,
    workspace: WorkspaceOf,
    remembered: RememberedOf,
    x: Axis = None,
    format: Annotated[Literal["json", "csv", "png"], Query(description="Form of the answer.")] = "json",
) -> Response:
    """The Pareto front of a study: as JSON (what `sparsesearch front --json` prints), as CSV, or as a picture."""
    store = workspace.store
    if format == "png":
        return await _drawn(request, lambda: _picture(store, name, x))

    def make() -> bytes:
        view = view_of_front(store, name, x)
        text = json.dumps(finite(front_document(view, x))) if format == "json" else front_csv(view, x)
        return text.encode()

    def read() -> Response:
        answer = remembered.of(("front", name, store.version(name), x, format), make)
        return Response(answer, media_type="application/json" if format == "json" else "text/csv; charset=utf-8")

    return await run_in_threadpool(read)


def _picture(store: SqlStore, name: str, x: FrontAxis | None) -> Response:
    view = view_of_front(store, name, x, is_whole=True)
    shown = described(view, None if x == "both" else x)
    if shown.dense is None:
        raise StudyFailedError(f"study {name!r} has no results to plot yet")
    from sparsesearch.visualize.front_plot import front_figure  # loads matplotlib

    return Response(front_figure(shown)._repr_png_(), media_type="image/png")


@router.get(
    "/studies/{name}/report",
    responses={**responses(404, 409), 200: {"content": {"text/html": {}}, "description": "The report."}},
    response_class=Response,
)
async def report(request: Request, name: StudyName, _: Reader, workspace: WorkspaceOf) -> Response:
    """The report of a study: one HTML page."""

    def draw() -> Response:
        view = StudyView.of(workspace.store, name)
        if not view.has_results:
            raise StudyFailedError(f"study {name!r} has no results yet")
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"}
        return Response(findings_page(Findings.of(view)), media_type="text/html; charset=utf-8", headers=headers)

    return await _drawn(request, draw)


async def _drawn(request: Request, draw: Callable[[], Response]) -> Response:
    """A picture or report, which takes seconds of a processor: one at a time, and other requests do not wait for it."""
    drawing: CapacityLimiter = request.app.state.drawing
    if drawing.statistics().tasks_waiting >= _MOST_WAITING:
        raise HTTPException(429, "too many pictures and reports at once; try again in a while", {"Retry-After": "5"})
    return await to_thread.run_sync(draw, limiter=drawing)


@router.get(
    "/studies/{name}/recipe",
    responses={**responses(404, 409), 200: {"content": {"application/yaml": {}}, "description": "The recipe."}},
    response_class=Response,
)
def recipe(name: StudyName, _: Reader, workspace: WorkspaceOf) -> Response:
    """The recipe of the best schedule, for `sparsesearch retrain`: YAML, as `sparsesearch export` writes it."""
    view = view_of_front(workspace.store, name)
    text = recipe_text(make_recipe(view.spec, view.front, best_trial(view)), file=f"{name}.yaml")
    headers = {"Content-Disposition": f'attachment; filename="{name}.yaml"'}
    return Response(text, media_type="application/yaml", headers=headers)


@router.get(
    "/studies/{name}/model",
    responses={
        **responses(404, 409),
        200: {"content": {"application/octet-stream": {}}, "description": "The model: safetensors."},
    },
    response_class=FileResponse,
)
def model(name: StudyName, _: Reader, workspace: WorkspaceOf, options: OptionsOf) -> FileResponse:
    """The best schedule with the weights that it was judged with, for `sparsesearch.load`."""
    path = result_file(workspace.store, options.results, name, MODEL)
    if path is None:
        raise HTTPException(
            409, f"there is no model of study {name!r}; train its recipe in full: sparsesearch retrain {name}.yaml"
        )
    return FileResponse(path, media_type="application/octet-stream", filename=f"{name}.safetensors")


@router.get(
    "/studies/{name}/picture",
    responses={**responses(404, 409), 200: {"content": {"image/png": {}}, "description": "The picture."}},
    response_class=FileResponse,
)
def picture(name: StudyName, _: Reader, workspace: WorkspaceOf, options: OptionsOf) -> FileResponse:
    """Validation images with the tokens that the best schedule keeps of them."""
    path = result_file(workspace.store, options.results, name, KEPT_TOKENS)
    if path is None:
        raise HTTPException(409, f"there is no picture of the tokens that study {name!r} keeps")
    return FileResponse(path, media_type="image/png")


def front_csv(view: StudyView, x: FrontAxis | None = None) -> str:
    """The front as a table: the dense model, then the front, cheapest first."""
    shown = described(view, x)
    metric = view.spec.metric
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(
        ["trial", "origin", "label", "macs", "of_dense", "ms", metric.name, "standard_error", "best", "tokens"]
    )
    for point in ([] if shown.dense is None else [shown.dense]) + list(shown.front):
        trial = point.trial
        error = metric.standard_error(trial.metrics)
        table.writerow(
            [
                trial.number,
                trial.origin.value,
                trial.label,
                trial.cost.macs,
                "" if point.of_dense is None else f"{point.of_dense:.6f}",
                latency_cell(trial),
                metric.of(trial.metrics),
                "" if error is None else f"{error:.6f}",
                int(point.is_best),
                point.schedule,
            ]
        )
    return text.getvalue()
