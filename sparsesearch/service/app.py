"""The application: routes, limits and errors of the service. It never runs a study, and never holds a lease."""

from __future__ import annotations

from collections.abc import MutableMapping
from importlib.metadata import version
from typing import Any

from anyio import CapacityLimiter
from fastapi import FastAPI

from sparsesearch.app.workspace import Workspace
from sparsesearch.service.event_feed import EventFeeds
from sparsesearch.service.limits import BodyLimit, Bucket, RequestLog
from sparsesearch.service.options import ServiceOptions
from sparsesearch.service.pages.router import add_pages
from sparsesearch.service.problems import add_handlers
from sparsesearch.service.remembered import Remembered
from sparsesearch.service.routes import (
    audit,
    document,
    events,
    health,
    profiles,
    records,
    results,
    studies,
    trials,
    webhooks,
)
from sparsesearch.service.strangers import Strangers

API = "/api/v1"
_STRANGERS_RATE = 2.0

_DESCRIPTION = """
Search over sparsification schedules: submit studies, watch their Pareto fronts, and download recipes.

Every route but the health checks needs a token, sent as `Authorization: Bearer TOKEN`
(`sparsesearch token create NAME --scope submit`). An error is one line that says what is wrong and how to fix it.
"""


def create_app(workspace: Workspace, options: ServiceOptions | None = None) -> FastAPI:
    """Create the application.

    Args:
        workspace: The database, and where files are.
        options: How the service is set up.
    """
    options = options or ServiceOptions()
    app = FastAPI(
        title="sparsesearch",
        version=version("sparsesearch"),
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # `document` answers it, to those who have a token
        telemetry={"auto_configure": True, "exclude": _is_health},
    )
    app.state.workspace = workspace
    app.state.options = options
    app.state.callers = Bucket(options.rate)
    app.state.strangers = Strangers(_STRANGERS_RATE)
    app.state.remembered = Remembered()
    app.state.feeds = EventFeeds(workspace.store)
    app.state.readiness = health.Readiness(workspace.store)
    app.state.drawing = CapacityLimiter(1)
    app.include_router(health.router)
    for module in (studies, trials, results, events, profiles, webhooks, audit, records, document):
        app.include_router(module.router, prefix=API)
    add_pages(app)
    add_handlers(app)
    app.add_middleware(BodyLimit, max_bytes=options.max_body_bytes)
    app.add_middleware(RequestLog)
    return app


def _is_health(scope: MutableMapping[str, Any]) -> bool:
    return scope.get("path") in ("/healthz", "/readyz", "/metrics")
