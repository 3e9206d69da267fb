"""The OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from sparsesearch.service.access import Reader
from sparsesearch.service.problems import responses

router = APIRouter(tags=["health"])


@router.get("/openapi.json", responses=responses())
def openapi(request: Request, _: Reader) -> dict[str, Any]:
    """This document."""
    found: dict[str, Any] = request.app.openapi()
    return found
