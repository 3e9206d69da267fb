"""Errors as the API answers them: the same line as on the command line."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from sparsesearch.errors import (
    SparseSearchError,
    StoreError,
    StoreVersionError,
    StudyBusyError,
    StudyExistsError,
    StudyFailedError,
    StudyNotFoundError,
    StudyStateError,
    printable,
)

logger = logging.getLogger(__name__)


MOST_LINE = 1000
"""Characters of a line; more repeat what was sent."""


class Problem(BaseModel):
    """An error: one line that says what is wrong and how to fix it."""

    error: str
    request_id: str = ""


_STATUS: dict[type[SparseSearchError], int] = {
    StudyNotFoundError: 404,
    StudyExistsError: 409,
    StudyBusyError: 409,
    StudyStateError: 409,
    StudyFailedError: 409,
    StoreError: 503,
    StoreVersionError: 503,
}


def status_of(error: SparseSearchError) -> int:
    """The status of an error of ours: 422 for input that is invalid in another way, 500 for what is not input."""
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind]
    return 422 if error.exit_code == 2 else 500


def problem(request: Request, status: int, line: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The response for an error."""
    request_id = getattr(request.state, "request_id", "")
    line = line if len(line) <= MOST_LINE else f"{line[: MOST_LINE - 3]}..."
    return JSONResponse(Problem(error=line, request_id=request_id).model_dump(), status_code=status, headers=headers)


def add_handlers(app: FastAPI) -> None:
    """Answer each error in one form."""

    @app.exception_handler(SparseSearchError)
    async def of_ours(request: Request, error: SparseSearchError) -> JSONResponse:
        status = status_of(error)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.warning("%s %s: %s", request.method, request.url.path, error)
        line = str(error)  # where the database is, is for the operator
        if isinstance(error, StudyNotFoundError | StudyExistsError):
            line = line.partition(" in ")[0]
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            line = "the database of the service does not answer as it should; try again, or tell the operator"
            return problem(request, status, line, {"Retry-After": "5"})
        return problem(request, status, line)

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> JSONResponse:
        is_unreadable = error.status_code == HTTPStatus.BAD_REQUEST
        line = "the body of the request cannot be read; send JSON in UTF-8" if is_unreadable else str(error.detail)
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_methods(app, request))
            line = f"{request.method} is not allowed here; use {headers['Allow']}"
        return problem(request, error.status_code, line, headers)

    @app.exception_handler(RequestValidationError)
    async def of_input(request: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()[0]
        if found["type"] == "json_invalid":
            return problem(
                request, 422, f"the body is not JSON: {found['ctx']['error']} (character {found['loc'][-1]})"
            )
        where = ".".join(str(part) for part in found["loc"][1:]) or str(found["loc"][0])
        return problem(request, 422, printable(f"{where}: {str(found['msg'])[:300]}"))

    @app.exception_handler(Exception)
    async def of_anything(request: Request, error: Exception) -> JSONResponse:
        request_id = getattr(request.state, "request_id", "")
        logger.error("request %s (%s %s) failed", request_id, request.method, request.url.path, exc_info=error)
        line = "the server failed; its log has the details under this request id"
        return problem(request, 500, line, {"X-Request-Id": request_id})


def _methods(app: FastAPI, request: Request) -> list[str]:
    """All methods that the path of a request takes; Starlette names those of one route."""
    scopes = [{**request.scope, "method": method} for method in ("DELETE", "GET", "PATCH", "POST", "PUT")]
    return [
        scope["method"] for scope in scopes if any(route.matches(scope)[0] is Match.FULL for route in app.router.routes)
    ]


def responses(*statuses: int) -> dict[int | str, dict[str, object]]:
    """The errors of a route, for its OpenAPI document: those given, and those of every route with a token."""
    every = {400, 401, 403, 413, 422, 429, 503, *statuses}
    return {status: {"model": Problem, "description": HTTPStatus(status).phrase} for status in sorted(every)}
