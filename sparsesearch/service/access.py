"""Who calls: a token in a header, or the same one in the cookie of the pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from sparsesearch.service.strangers import Strangers
from sparsesearch.store.audit import Actor
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.access import Scope, Token
from sparsesearch.study.submission import Submission

COOKIE = "sparsesearch_token"
bearer = HTTPBearer(auto_error=False, description="A token of `sparsesearch token create`.")
_SAFE = ("GET", "HEAD", "OPTIONS")


async def token_of(request: Request) -> Token:
    """The valid token of a request. Raises `HTTPException`: 401, or 429 after too many without one."""
    secret, strangers = _secret_of(request), request.app.state.strangers
    if secret is not None:
        token = await find_token(request, secret)
        if token is not None:
            return token
    strangers.count(request)
    raise HTTPException(
        401,
        "no valid token; send the header Authorization: Bearer TOKEN, of: sparsesearch token create NAME",
        {"WWW-Authenticate": "Bearer"},
    )


async def find_token(request: Request, secret: str) -> Token | None:
    """The token of a secret, if it is valid. Raises `HTTPException`: 429."""
    store: SqlStore = request.app.state.workspace.store
    strangers: Strangers = request.app.state.strangers
    strangers.check(request, secret)
    token = await run_in_threadpool(store.tokens.find, secret)
    if token is not None:
        strangers.remember(secret)
    return token


def is_valid(request: Request, token: Token) -> bool:
    """Whether the token of a request that takes long is still valid."""
    store: SqlStore = request.app.state.workspace.store
    secret = _secret_of(request)
    found = None if secret is None else store.tokens.find(secret)
    return found is not None and found.name == token.name


def _secret_of(request: Request) -> str | None:
    """The secret of the header, or of the cookie.

    A cookie is sent by the browser whatever page made it do so, so that it counts for changes only from our own pages.
    """
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and secret.strip():
        return secret.strip()
    cookie = request.cookies.get(COOKIE)
    return cookie if cookie and (request.method in _SAFE or is_same_origin(request)) else None


def is_same_origin(request: Request) -> bool:
    """Whether a request was made by one of our own pages."""
    site = request.headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin") or request.headers.get("referer") or ""
    try:
        host = urlsplit(origin).netloc
    except ValueError:  # no URL
        return False
    return bool(host) and host == request.headers.get("host")


def needs(scope: Scope) -> Callable[..., Awaitable[Token]]:
    """A dependency: the token of the caller, which must have a scope."""

    async def dependency(request: Request, _: Annotated[object, Depends(bearer)]) -> Token:
        token = await token_of(request)
        if not request.app.state.callers.take(token.name):
            raise HTTPException(
                429, f"token {token.name!r} makes too many requests; wait a second", {"Retry-After": "1"}
            )
        check_scope(token, scope)
        request.state.token = token
        return token

    return dependency


Reader = Annotated[Token, Depends(needs(Scope.READ))]
Submitter = Annotated[Token, Depends(needs(Scope.SUBMIT))]
Admin = Annotated[Token, Depends(needs(Scope.ADMIN))]


def actor(token: Token) -> Actor:
    """Who is named in the audit trail."""
    return Actor(token.name)


def check_scope(token: Token, scope: Scope) -> None:
    """Check that a token allows something.

    Raises:
        HTTPException: 403.
    """
    if not token.scope.includes(scope):
        raise HTTPException(403, f"token {token.name!r} has the scope {token.scope}; this needs {scope}")


def check_owner(token: Token, submission: Submission | None, *, study: str) -> None:
    """Check that a token may change a study: its own, or any with the scope admin.

    Raises:
        HTTPException: 403.
    """
    if token.scope is Scope.ADMIN or (submission is not None and submission.owner == token.name):
        return
    owner = "nobody of this service" if submission is None else repr(submission.owner)
    raise HTTPException(403, f"study {study!r} belongs to {owner}; changing it needs the scope admin")
