"""The audit trail."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from sparsesearch.service.access import Admin
from sparsesearch.service.parts import WorkspaceOf
from sparsesearch.service.problems import responses
from sparsesearch.study.submission import AuditEntry

router = APIRouter(tags=["operations"])


@router.get("/audit", responses=responses())
def read(
    _: Admin,
    workspace: WorkspaceOf,
    what: Annotated[
        str | None,
        Query(max_length=200, pattern=r"^[A-Za-z0-9._-]+$", description="Only changes of this, such as a study."),
    ] = None,
    before: Annotated[int | None, Query(ge=1, le=2**62, description="Only entries with lower numbers.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[AuditEntry]:
    """Who changed what and when, newest first."""
    return list(workspace.store.queue.audit(what=what, before=before, limit=limit))
