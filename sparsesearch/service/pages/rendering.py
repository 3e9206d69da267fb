"""Make pages from templates. All text is escaped, and nothing but our own files is loaded."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from http import HTTPStatus

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from sparsesearch.report.chart import legend
from sparsesearch.service.pages.flash import FLASH, read_flash
from sparsesearch.service.parts import options_of
from sparsesearch.study.access import Token
from sparsesearch.text import human_time, macs_text, ms_text, percent_text

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every page, redirects included."""


def clock_text(seconds: float) -> str:
    """Format a duration as `3:05` or `1:03:05`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def utc_text(at: float) -> str:
    """Format a Unix time as `2026-03-01 12:30 UTC`."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def page(request: Request, template: str, *, code: int = HTTPStatus.OK, **context: object) -> HTMLResponse:
    """A page, or a part of one for a script that asked for it.

    Args:
        request: The request; a message that waits for the next page is shown, and is then gone.
        template: File name of the template.
        code: Status of the response.
        context: What the template shows.
    """
    token: Token | None = getattr(request.state, "token", None)
    found = _TEMPLATES.get_template(template)
    is_part = template.startswith("_")
    flash = None if is_part else read_flash(request)
    text = found.render(
        **context,
        token=token,
        flash=flash,
        mlflow_url=_web_address(options_of(request).mlflow_url),
        version=request.app.version,
        path=request.url.path,
    )
    response = HTMLResponse(text, status_code=code)
    if flash is not None:
        response.delete_cookie(FLASH)
    return response


def _web_address(url: str | None) -> str | None:
    return url if url is not None and url.startswith(("http://", "https://")) else None


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("sparsesearch.service"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "clock": clock_text,
        "duration": human_time,
        "macs": macs_text,
        "ms": ms_text,
        "percent": percent_text,
        "utc": utc_text,
    }
    made.globals |= {"now": time.time, "legend": legend}
    return made


_TEMPLATES = _environment()
