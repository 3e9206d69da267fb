"""Requests without a valid token: so many from one address, and no look into the database for more."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from fastapi import HTTPException, Request

from sparsesearch.service.limits import Bucket

_KNOWN = 10_000


class Strangers:
    """Who may try a token. One that was valid lately is looked up whatever others from the same address do.

    Args:
        rate: Requests a second without a valid token from one address, on average; twice as many at once. Ten times as
            many tokens are looked up, as others from that address have valid ones.
    """

    def __init__(self, rate: float) -> None:
        self._bucket = Bucket(rate)
        self._looks = Bucket(10.0 * rate)
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def check(self, request: Request, secret: str) -> None:
        """Check that a token may be looked up. Raises `HTTPException`: 429."""
        if _hashed(secret) not in self._known and not self._looks.take(_address(request)):
            raise _too_many()

    def count(self, request: Request) -> None:
        """Count a request without a valid token. Raises `HTTPException`: 429."""
        if not self._bucket.take(_address(request)):
            raise _too_many()

    def remember(self, secret: str) -> None:
        """Note that a token is valid."""
        hashed = _hashed(secret)
        self._known[hashed] = None
        self._known.move_to_end(hashed)
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)


def _address(request: Request) -> str:
    return request.client.host if request.client else "-"


def _hashed(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def _too_many() -> HTTPException:
    return HTTPException(429, "too many requests without a valid token; wait a minute", {"Retry-After": "60"})
