"""How much one caller may ask for, and a log line for each request."""

from __future__ import annotations

import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sparsesearch.service.problems import problem

access_log = logging.getLogger("sparsesearch.service.access")

_CALLERS = 10_000


class Bucket:
    """Token buckets: each caller may make `rate` requests a second on average, and twice as many at once."""

    def __init__(self, rate: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> bool:
        """Whether a caller may make a request now; if so, it counts."""
        now = self._clock()
        most = max(1.0, 2.0 * self._rate)
        left, at = self._left.pop(caller, (most, now))
        left = min(most, left + (now - at) * self._rate)
        may = left >= 1.0
        self._left[caller] = (left - 1.0 if may else left, now)
        while len(self._left) > _CALLERS:
            self._left.popitem(last=False)
        return may


class BodyLimit:
    """Refuses requests whose body is too large: at once if they say so, else as soon as it is.

    FastAPI's own limit answers in plain text, without our line and request id, and hides what else is wrong.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        line = f"the body of the request is larger than {self._max_bytes:,} bytes"
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > self._max_bytes):
            await problem(Request(scope), 413, line)(scope, receive, send)
            return
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_bytes:
                raise HTTPException(413, line)
            return message

        await self._app(scope, limited, send)


class RequestLog:
    """Gives each request an id, which is returned and logged as JSON with who asked, for what, and how it ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid4().hex[:16]
        scope.setdefault("state", {})["request_id"] = request_id
        began, status = time.monotonic(), 0

        async def with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", []), (b"x-request-id", request_id.encode())]}
            await send(message)

        try:
            await self._app(scope, receive, with_id)
        except Exception:
            status = status or 500  # which the server answers with
            raise
        finally:
            token = scope["state"].get("token")
            entry = {
                "request_id": request_id,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round(1e3 * (time.monotonic() - began), 1),
                "token": None if token is None else token.name,
                "client": scope["client"][0] if scope.get("client") else None,
            }
            access_log.info(json.dumps(entry))
