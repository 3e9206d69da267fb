"""Log in with a token, and log out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from sparsesearch.service.access import COOKIE
from sparsesearch.service.limits import Bucket
from sparsesearch.service.pages.flash import Flash, back_to
from sparsesearch.service.pages.forms import FormOf
from sparsesearch.service.pages.rendering import page
from sparsesearch.service.pages.route import OpenRoute, local_path
from sparsesearch.service.parts import OptionsOf, WorkspaceOf

router = APIRouter(route_class=OpenRoute)
_LONGEST_TOKEN = 200


@router.get("/login")
def show(request: Request, next: Annotated[str | None, Query()] = None) -> Response:
    """Ask for a token."""
    return page(request, "login.html", next=local_path(next), error=None)


@router.post("/login")
async def login(request: Request, form: FormOf, workspace: WorkspaceOf, options: OptionsOf) -> Response:
    """Keep a valid token in a cookie that scripts and other sites cannot use."""
    path, secret = local_path(form.get("next")), form.get("token", "")
    strangers: Bucket = request.app.state.strangers
    if not strangers.take(request.client.host if request.client else "-"):
        raise HTTPException(429, "too many requests without a valid token; wait a minute", {"Retry-After": "60"})
    token = None
    if 0 < len(secret) <= _LONGEST_TOKEN and secret.isascii():
        token = await run_in_threadpool(workspace.store.tokens.find, secret)
    if token is None:
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
