"""Log in with a token, and log out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from sparsesearch.service.access import COOKIE, find_token
from sparsesearch.service.pages.flash import Flash, back_to
from sparsesearch.service.pages.forms import FormOf
from sparsesearch.service.pages.rendering import page
from sparsesearch.service.pages.route import OpenRoute, local_path
from sparsesearch.service.parts import OptionsOf

router = APIRouter(route_class=OpenRoute)
_LONGEST_TOKEN = 200


@router.get("/login")
def show(request: Request, next: Annotated[str | None, Query()] = None) -> Response:
    """Ask for a token."""
    return page(request, "login.html", next=local_path(next), error=None)


@router.post("/login")
async def login(request: Request, form: FormOf, options: OptionsOf) -> Response:
    """Keep a valid token in a cookie that scripts and other sites cannot use."""
    path, secret = local_path(form.get("next")), form.get("token", "")
    token = None
    if 0 < len(secret) <= _LONGEST_TOKEN and secret.isascii():
        token = await find_token(request, secret)
    if token is None:
        request.app.state.strangers.count(request)
        line = "this token is not valid; create one with: sparsesearch token create NAME"
        return page(request, "login.html", code=401, next=path, error=line)
    request.state.token = token
    response = back_to(request, path)
    response.set_cookie(COOKIE, secret, httponly=True, samesite="strict", secure=options.secure_cookies)
    return response


@router.post("/logout")
def logout(request: Request) -> Response:
    """Forget the token."""
    response = back_to(request, "/login", Flash("done", "You are logged out."))
    response.delete_cookie(COOKIE)
    return response
