"""The changes of a study as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from sparsesearch.service.access import Reader, is_valid
from sparsesearch.service.event_feed import EventFeeds, number_of
from sparsesearch.service.parts import StudyName, WorkspaceOf
from sparsesearch.service.problems import responses
from sparsesearch.store.service_records import LastChange

router = APIRouter(tags=["studies"])
_RETRY_MS = 2000
_PROBLEM = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_ERRORS: dict[int | str, dict[str, object]] = {
    status: {"description": one["description"], "content": _PROBLEM} for status, one in responses(404).items()
}
"""Of the type of errors, not of the stream, which FastAPI would give to models."""


async def _existing(request: Request, name: StudyName, workspace: WorkspaceOf, token: Reader) -> LastChange:
    """The last change of a study that exists: what is wrong is answered before a stream begins."""
    feeds: EventFeeds = request.app.state.feeds
    if not feeds.has_room(token.name):
        raise HTTPException(
            429, f"token {token.name!r} has too many streams of events open; close some", {"Retry-After": "10"}
        )
    return await run_in_threadpool(workspace.store.last_change, name)


@router.get("/studies/{name}/events", response_class=EventSourceResponse, responses=_ERRORS)
async def events(
    request: Request,
    name: StudyName,
    last: Annotated[LastChange, Depends(_existing)],
    token: Reader,
    last_event_id: Annotated[str | None, Header(description="The id of the last event that was received.")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """What changes in a study: `trial` (a trial as it is now), `study` (its state), `end` (no more will follow).

    Ids count the changes of trials in the database, so that a client that was interrupted misses nothing: it sends the
    last one as `Last-Event-ID`, as browsers do by themselves. Without it, all trials are sent first.
    """
    feeds: EventFeeds = request.app.state.feeds

    async def may_watch() -> bool:
        return await run_in_threadpool(is_valid, request, token)

    after = number_of(last_event_id or "", last)
    async for event in feeds.events(name, watcher=token.name, last=last, after=after, may_watch=may_watch):
        yield ServerSentEvent(data=event.data, event=event.kind, id=event.id, retry=_RETRY_MS)
