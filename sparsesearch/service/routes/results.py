"""The results of a study: front, report and recipe."""

from __future__ import annotations

import csv
import io
import threading
from typing import Annotated, Any, Literal

import yaml
from fastapi import APIRouter, Query, Response

from sparsesearch.analysis.findings import Findings
from sparsesearch.analysis.view import StudyView
from sparsesearch.analysis.words import latency_cell
from sparsesearch.app.read_front import FrontAxis, described, front_document, view_of_front
from sparsesearch.artifacts.from_study import best_trial, make_recipe
from sparsesearch.errors import StudyFailedError
from sparsesearch.report.page import findings_page
from sparsesearch.service.access import Reader
from sparsesearch.service.parts import StudyName, WorkspaceOf
from sparsesearch.service.problems import responses

router = APIRouter(tags=["results"])

Axis = Annotated[FrontAxis | None, Query(description="Cost axis; by default the unit of the budget.")]
_DRAWING = threading.Semaphore(1)  # pictures and reports take seconds of a processor each


@router.get(
    "/studies/{name}/front",
    responses={
        **responses(404, 409),
        200: {"content": {"application/json": {}, "text/csv": {}, "image/png": {}}, "description": "The front."},
    },
    response_model=None,
)
def front(
    name: StudyName,
    _: Reader,
    workspace: WorkspaceOf,
    x: Axis = None,
    format: Annotated[Literal["json", "csv", "png"], Query(description="Form of the answer.")] = "json",
) -> dict[str, Any] | Response:
    """The Pareto front of a study: as JSON (what `sparsesearch front --json` prints), as CSV, or as a picture."""
    store = workspace.store
    if format == "json":
        return front_document(view_of_front(store, name, x), x)
    if format == "csv":
        return Response(front_csv(view_of_front(store, name, x), x), media_type="text/csv; charset=utf-8")
    view = view_of_front(store, name, x, is_whole=True)
    shown = described(view, None if x == "both" else x)
    if shown.dense is None:
        raise StudyFailedError(f"study {name!r} has no results to plot yet")
    from sparsesearch.visualize.front_plot import front_figure  # loads matplotlib

    with _DRAWING:
        return Response(front_figure(shown)._repr_png_(), media_type="image/png")


@router.get("/studies/{name}/report", responses=responses(404, 409), response_class=Response)
def report(name: StudyName, _: Reader, workspace: WorkspaceOf) -> Response:
    """The report of a study: one HTML page."""
    with _DRAWING:
        view = StudyView.of(workspace.store, name)
        if not view.has_results:
            raise StudyFailedError(f"study {name!r} has no results yet")
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"}
        return Response(findings_page(Findings.of(view)), media_type="text/html; charset=utf-8", headers=headers)


@router.get("/studies/{name}/recipe", responses=responses(404, 409), response_class=Response)
def recipe(name: StudyName, _: Reader, workspace: WorkspaceOf) -> Response:
    """The recipe of the best schedule, for `sparsesearch retrain`: YAML."""
    view = view_of_front(workspace.store, name)
    made = make_recipe(view.spec, view.front, best_trial(view))
    text = yaml.safe_dump(made.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    headers = {"Content-Disposition": f'attachment; filename="{name}.yaml"'}
    return Response(text, media_type="application/yaml", headers=headers)


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
