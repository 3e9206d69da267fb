"""What changes in a study, in the order in which it changed, for all who watch it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool

from sparsesearch.errors import StoreError, StudyNotFoundError
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.state import StudyState
from sparsesearch.study.trial import Trial

POLL_S = 0.5
_AWAY_S = 2.0
_PAGE = 200


@dataclass(frozen=True)
class Event:
    """Something that changed.

    Attributes:
        kind: `trial`, `study`, or `end` when no more will follow.
        number: Number of the change; it is that of the last trial that changed.
        data: The trial or the study as it is now, as plain data.
    """

    kind: str
    number: int
    data: dict[str, Any]


@dataclass
class _Feed:
    """One study that is watched: the newest change and the state, which one task reads for all watchers."""

    change: int = -1
    state: dict[str, Any] = field(default_factory=dict)
    is_over: bool = False
    is_deleted: bool = False
    watchers: int = 0
    task: asyncio.Task[None] | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)


class EventFeeds:
    """The studies that are watched. Each is polled once, however many watch it."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._feeds: dict[str, _Feed] = {}

    async def events(self, study: str, *, after: int) -> AsyncIterator[Event]:
        """The changes after a number, those that were missed first; ends when the study is over or deleted.

        A trial that changed twice in between appears once, as it is now.
        """
        feed = self._feeds.setdefault(study, _Feed())
        feed.watchers += 1
        if feed.task is None:
            feed.task = asyncio.create_task(self._poll(study, feed))
        state: dict[str, Any] = {}
        try:
            while True:
                async with feed.changed:
                    while not (feed.change > after or feed.state != state or feed.is_deleted):
                        await feed.changed.wait()
                if feed.is_deleted:
                    yield Event("end", after, {"study": study, "state": "DELETED"})
                    return
                is_over, newest, current = feed.is_over, feed.change, feed.state
                while after < newest:
                    found = await self._changed(study, feed, after=after)
                    for change, trial in found:
                        after = change
                        yield Event("trial", change, trial.public())
                    if len(found) < _PAGE:
                        after = max(after, newest)
                if feed.is_deleted:
                    continue
                if current != state:
                    state = current
                    yield Event("study", after, state)
                if is_over:
                    yield Event("end", after, state)
                    return
        finally:
            feed.watchers -= 1
            if feed.watchers == 0:
                feed.task.cancel()
                self._forget(study, feed)

    async def _changed(self, study: str, feed: _Feed, *, after: int) -> Sequence[tuple[int, Trial]]:
        """The next trials that changed; none if the study was deleted. A database that is away is waited for."""
        while not feed.is_deleted:
            try:
                return await run_in_threadpool(self._store.trials_changed, study, after=after, limit=_PAGE)
            except StudyNotFoundError:
                feed.is_deleted = True
            except StoreError:
                await asyncio.sleep(_AWAY_S)
        return ()

    async def _poll(self, study: str, feed: _Feed) -> None:
        while True:
            try:
                change, condition = await run_in_threadpool(self._store.last_change, study)
            except StudyNotFoundError:
                change, feed.is_deleted = -1, True
            except StoreError:  # it is back soon, or the watchers are told by their own requests
                await asyncio.sleep(_AWAY_S)
                continue
            if feed.is_deleted or change < feed.change:  # deleted, and perhaps another one has its name
                feed.is_deleted = True
            else:
                reason = condition.reason
                state = {"study": study, "state": condition.state.value, "reason": reason}
                is_over = condition.state.is_over or condition.state is StudyState.FAILED
                if (change, state, is_over) == (feed.change, feed.state, feed.is_over):
                    await asyncio.sleep(POLL_S)
                    continue
                feed.change, feed.state, feed.is_over = change, state, is_over
            async with feed.changed:
                feed.changed.notify_all()
            if feed.is_deleted:
                self._forget(study, feed)
                return
            await asyncio.sleep(POLL_S)

    def _forget(self, study: str, feed: _Feed) -> None:
        if self._feeds.get(study) is feed:
            del self._feeds[study]
