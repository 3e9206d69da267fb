"""Whether the service works, for load balancers, without a token; and what happens in it, for Prometheus, with one."""

from __future__ import annotations

import math
import threading
import time

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel

from sparsesearch.errors import SparseSearchError
from sparsesearch.service.access import Reader
from sparsesearch.service.metrics import metrics_text
from sparsesearch.service.parts import WorkspaceOf
from sparsesearch.service.problems import responses
from sparsesearch.store.sql import SqlStore

router = APIRouter(tags=["health"])
_READY_S = 1.0


class Health(BaseModel):
    """The state of the service."""

    status: str
    detail: str | None = None


@router.get("/healthz")
async def healthz() -> Health:
    """Whether the process answers."""
    return Health(status="ok")


class Readiness:
    """Whether the database answers. It is asked once a second at most, however many want to know."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._asked_at = -math.inf
        self._found = Health(status="ok")

    def health(self) -> Health:
        """The state of the database, at most a second old."""
        with self._lock:
            if time.monotonic() - self._asked_at >= _READY_S:
                try:
                    self._store.revision()
                    self._found = Health(status="ok")
                except SparseSearchError as error:
                    self._found = Health(status="unavailable", detail=type(error).__name__)
                self._asked_at = time.monotonic()
            return self._found


@router.get("/readyz", responses={503: {"model": Health}})
def readyz(request: Request, response: Response) -> Health:
    """Whether the database answers, and is of this version's revision."""
    readiness: Readiness = request.app.state.readiness
    found = readiness.health()
    if found.status != "ok":
        response.status_code = 503
    return found


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
