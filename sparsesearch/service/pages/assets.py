"""The files that pages load."""

from __future__ import annotations

import os
from pathlib import Path

from fastapi import APIRouter, Response
from starlette.responses import Response as AnyResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from sparsesearch.report.style import STYLE

router = APIRouter()
FOLDER = Path(__file__).parents[1] / "static"
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "max-age=300"}


class _Files(StaticFiles):
    """The files of a folder, which browsers keep for five minutes."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> AnyResponse:
        """The response for a file, or that it has not changed."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_HEADERS)
        return response


def files() -> StaticFiles:
    """The application that serves the files of the folder `static`."""
    return _Files(directory=FOLDER)


@router.get("/static/report.css")
def report_style() -> Response:
    """The style sheet of reports, whose charts and colours the pages use as well."""
    return Response(STYLE, media_type="text/css; charset=utf-8", headers=_HEADERS)
