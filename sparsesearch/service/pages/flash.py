"""One line for the page that a browser shows after it sent a form: kept in a cookie until then."""

from __future__ import annotations

import base64
import binascii
import json
from http import HTTPStatus
from typing import Literal, NamedTuple

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from sparsesearch.service.parts import options_of

FLASH = "sparsesearch_flash"
_LONGEST = 700
_SECONDS = 60


class Flash(NamedTuple):
    """A line, and whether it is good news."""

    kind: Literal["done", "error"]
    text: str


def read_flash(request: Request) -> Flash | None:
    """The line that waits for this page; None if there is none."""
    try:
        kind, text = json.loads(base64.urlsafe_b64decode(request.cookies.get(FLASH, "").encode("ascii")))
    except (ValueError, TypeError, binascii.Error):
        return None
    return Flash("done" if kind == "done" else "error", str(text)[:_LONGEST])


def set_flash(request: Request, response: Response, flash: Flash) -> None:
    """Let a line wait for the next page."""
    text = flash.text if len(flash.text) <= _LONGEST else f"{flash.text[: _LONGEST - 3]}..."
    value = base64.urlsafe_b64encode(json.dumps([flash.kind, text], ensure_ascii=False).encode()).decode("ascii")
    secure = options_of(request).secure_cookies
    response.set_cookie(FLASH, value, max_age=_SECONDS, httponly=True, samesite="strict", secure=secure)


def back_to(request: Request, path: str, flash: Flash | None = None) -> RedirectResponse:
    """Show another page after a form was sent."""
    response = RedirectResponse(path, status_code=HTTPStatus.SEE_OTHER)
    if flash is not None:
        set_flash(request, response, flash)
    return response
