"""The changes of a study as server-sent events."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from sparsesearch.service.access import Reader
from sparsesearch.service.event_feed import EventFeeds
from sparsesearch.service.parts import StudyName, WorkspaceOf
from sparsesearch.service.problems import responses

router = APIRouter(tags=["studies"])
_RETRY_MS = 2000
_PROBLEM = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_ERRORS: dict[int | str, dict[str, object]] = {
    status: {"description": one["description"], "content": _PROBLEM} for status, one in responses(404).items()
}
"""Of the type of errors, not of the stream, which FastAPI would give to models."""


async def _existing(name: StudyName, workspace: WorkspaceOf, _: Reader) -> str:
    """The name of a study that exists: an unknown one is answered before a stream begins."""
    await run_in_threadpool(workspace.store.uid, name)
    return name


@router.get("/studies/{name}/events", response_class=EventSourceResponse, responses=_ERRORS)
async def events(
    request: Request,
    name: Annotated[str, Depends(_existing)],
    last_event_id: Annotated[str | None, Header(description="The id of the last event that was received.")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """What changes in a study: `trial` (a trial as it is now), `study` (its state), `end` (no more will follow).

    Ids count the changes of trials in the database, so that a client that was interrupted misses nothing: it sends the
    last one as `Last-Event-ID`, as browsers do by themselves. Without it, all trials are sent first.
    """
    feeds: EventFeeds = request.app.state.feeds
    is_number = last_event_id is not None and re.fullmatch(r"[0-9]{1,18}", last_event_id)
    async for event in feeds.events(name, after=int(last_event_id or 0) if is_number else 0):
        yield ServerSentEvent(data=event.data, event=event.kind, id=str(event.number), retry=_RETRY_MS)
