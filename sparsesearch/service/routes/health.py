"""Whether the service works, for load balancers, without a token; and what happens in it, for Prometheus, with one."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel

from sparsesearch.errors import SparseSearchError
from sparsesearch.service.access import Reader
from sparsesearch.service.metrics import metrics_text
from sparsesearch.service.parts import WorkspaceOf
from sparsesearch.service.problems import responses

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The state of the service."""

    status: str
    detail: str | None = None


@router.get("/healthz")
async def healthz() -> Health:
    """Whether the process answers."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Health}})
def readyz(workspace: WorkspaceOf, response: Response) -> Health:
    """Whether the database answers, and is of this version's revision."""
    try:
        workspace.store.revision()
    except SparseSearchError as error:
        response.status_code = 503
        return Health(status="unavailable", detail=type(error).__name__)
    return Health(status="ok")


@router.get(
    "/metrics",
    responses={
        **responses(),
        200: {"content": {"text/plain": {}}, "description": "The metrics."},
        503: {"model": Health},
    },
    response_class=Response,
)
def metrics(workspace: WorkspaceOf, _: Reader) -> Response:
    """Metrics in the text format of Prometheus, computed from the database: the same from every process."""
    try:
        return PlainTextResponse(metrics_text(workspace.store), media_type="text/plain; version=0.0.4; charset=utf-8")
    except SparseSearchError as error:
        health = Health(status="unavailable", detail=type(error).__name__)
        return JSONResponse(health.model_dump(), status_code=503)
