"""What all pages have in common: headers, errors as pages, forms from our own pages only, and the way to the login."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException as AnyHTTPException

from sparsesearch.errors import SparseSearchError
from sparsesearch.service.access import COOKIE, is_same_origin
from sparsesearch.service.pages.flash import Flash, back_to
from sparsesearch.service.pages.rendering import HEADERS, page


class PageProblem(NamedTuple):
    """An error: its status, its line, and headers."""

    status: int
    line: str
    headers: Mapping[str, str]


Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class OpenRoute(APIRoute):
    """A page that everybody may see."""

    def get_route_handler(self) -> Handler:
        """The handler, with the headers of pages and errors as pages."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                if request.method == "POST" and not is_same_origin(request):
                    raise HTTPException(403, "this form was sent by another site; open the page here and send it again")
                response = await self.answer(request, inner)
            except (AnyHTTPException, SparseSearchError, RequestValidationError) as error:
                response = self.failed(request, await problem_of(request, error))
            response.headers.update(HEADERS)
            return response

        return handle

    async def answer(self, request: Request, inner: Handler) -> Response:
        """The response of the page itself."""
        return await inner(request)

    def failed(self, request: Request, found: PageProblem) -> Response:
        """The response for an error: a page with its line."""
        phrase = HTTPStatus(found.status).phrase
        made = page(request, "error.html", code=found.status, line=found.line, phrase=phrase)
        made.headers.update({name: text for name, text in found.headers.items() if name == "retry-after"})
        return made


class PageRoute(OpenRoute):
    """A page for those who are logged in; others are sent to the login."""

    async def answer(self, request: Request, inner: Handler) -> Response:
        """The response of the page itself, or the way to the login."""
        if not (request.cookies.get(COOKIE) or request.headers.get("authorization")):
            return _to_login(request)
        try:
            return await inner(request)
        except HTTPException as error:
            if error.status_code != HTTPStatus.UNAUTHORIZED:
                raise
            return _to_login(request)


class ActionRoute(PageRoute):
    """A form of `/studies/NAME/ACTION`: what is wrong with it is shown on the page of the study."""

    def failed(self, request: Request, found: PageProblem) -> Response:
        """The way back to the study with a line; a page where there is no way back."""
        is_known = getattr(request.state, "token", None) is not None
        if not is_known or found.status in (HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE):
            return super().failed(request, found)
        return back_to(request, request.url.path.rpartition("/")[0], Flash("error", found.line))


async def problem_of(request: Request, error: Exception) -> PageProblem:
    """What is wrong, in the words of the API."""
    if isinstance(error, RequestValidationError):
        return PageProblem(HTTPStatus.NOT_FOUND, "there is no such page", {})
    handlers = request.app.exception_handlers
    handler = next(handlers[kind] for kind in type(error).__mro__ if kind in handlers)
    answer: Response = await handler(request, error)
    return PageProblem(answer.status_code, json.loads(bytes(answer.body))["error"], dict(answer.headers))


def local_path(text: str | None) -> str:
    """A path of this service to go on to; `/` for anything that leads elsewhere."""
    if not text or not text.startswith("/") or text[1:2] in ("/", "\\") or not text.isprintable() or len(text) > 2000:
        return "/"
    parts = urlsplit(text)
    return text if not parts.scheme and not parts.netloc else "/"


def _to_login(request: Request) -> Response:
    """The way to the login, and from there back to the page."""
    if request.method == "GET" and request.headers.get("sec-fetch-site") == "cross-site":
        # A browser keeps our cookie to itself when it follows a link of another site; it sends it when we ask again.
        return page(request, "again.html")
    from_script = request.headers.get("hx-request") == "true"
    asked = urlsplit(request.headers.get("hx-current-url" if from_script else "referer", ""))
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    path = here if request.method == "GET" and not from_script else asked.path + (f"?{asked.query}" * bool(asked.query))
    login = f"/login?next={quote(local_path(path), safe='/')}"
    if from_script:
        return Response(status_code=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": login})
    return RedirectResponse(login, status_code=HTTPStatus.SEE_OTHER)
