"""What changes in a study, in the order in which it changed, for all who watch it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool

from sparsesearch.errors import StoreUnavailableError, StudyNotFoundError
from sparsesearch.store.service_records import LastChange
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.state import StudyState
from sparsesearch.study.trial import Trial

POLL_S = 0.5
CHECK_S = 30.0
"""Seconds between two looks at whether somebody may still watch."""

MAX_STREAMS = 500
"""Streams that one token may have open at once."""

_AWAY_S = 2.0
_PAGE = 200


@dataclass(frozen=True)
class Event:
    """Something that changed.

    Attributes:
        kind: `trial`, `study`, or `end` when no more will follow.
        id: The id of the change; it is that of the last trial that changed.
        data: The trial or the study as it is now, as plain data.
    """

    kind: str
    id: str
    data: dict[str, Any]


@dataclass
class _Feed:
    """One study that is watched: the newest change and the state, which one task reads for all watchers."""

    uid: str = ""
    change: int = -1
    state: dict[str, Any] = field(default_factory=dict)
    is_over: bool = False
    is_deleted: bool = False
    error: BaseException | None = None
    watchers: int = 0
    task: asyncio.Task[None] | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def has_news(self, *, after: int, state: dict[str, Any]) -> bool:
        """Whether there is something to say to whom was told this."""
        return self.change > after or self.state != state or self.is_deleted or self.error is not None


def event_id(uid: str, number: int) -> str:
    """The id of a change: who sends it back is told what came after it in this study, not in another of its name."""
    return f"{uid[:12]}-{number}"


def number_of(text: str, last: LastChange) -> int:
    """The number in the id of an event; 0 for any other text, another study, or a change that is not stored."""
    uid, _, number = text.rpartition("-")
    if uid != last.uid[:12] or not (number.isascii() and number.isdecimal() and len(number) <= 18):
        return 0
    return int(number) if int(number) <= last.number else 0


class EventFeeds:
    """The studies that are watched. Each is polled once, however many watch it."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._feeds: dict[str, _Feed] = {}
        self._streams: Counter[str] = Counter()

    def has_room(self, watcher: str) -> bool:
        """Whether somebody may open one more stream."""
        return self._streams[watcher] < MAX_STREAMS

    async def events(
        self, study: str, *, watcher: str, last: LastChange, after: int, may_watch: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[Event]:
        """The changes after a number, those that were missed first.

        It ends when the study is over or deleted, or when the caller may no longer watch. A trial that changed twice in
        between appears once, as it is now.

        Args:
            study: Name of the study.
            watcher: Who watches.
            last: Its last change, as it was read a moment ago.
            after: The number of the last change that the caller knows.
            may_watch: Whether the caller may still watch; it is asked from time to time.
        """
        feed = self._feeds.get(study)
        if feed is None or feed.uid != last.uid:  # its watchers are told of the deletion when it is noticed
            feed = self._feeds[study] = _Feed(uid=last.uid)
        feed.watchers += 1
        self._streams[watcher] += 1
        if feed.task is None:
            feed.task = asyncio.create_task(self._poll(study, feed))
        state: dict[str, Any] = {}
        checked = time.monotonic()
        try:
            while True:
                if time.monotonic() - checked >= CHECK_S:
                    if not await may_watch():
                        return
                    checked = time.monotonic()
                if not await self._news(feed, after=after, state=state):
                    continue
                if feed.is_deleted:
                    yield Event("end", event_id(feed.uid, after), {"study": study, "state": "DELETED"})
                    return
                if feed.error is not None:
                    raise feed.error
                is_over, newest, current = feed.is_over, feed.change, feed.state
                while after < newest:
                    found = await self._changed(study, feed, after=after)
                    for change, trial in found:
                        after = change
                        yield Event("trial", event_id(feed.uid, change), trial.public())
                    if len(found) < _PAGE:
                        after = max(after, newest)
                if feed.is_deleted:
                    continue
                if current != state:
                    state = current
                    yield Event("study", event_id(feed.uid, after), state)
                if is_over:
                    yield Event("end", event_id(feed.uid, after), state)
                    return
        finally:
            feed.watchers -= 1
            self._streams[watcher] -= 1
            if feed.watchers == 0:
                feed.task.cancel()
                self._forget(study, feed)

    async def _news(self, feed: _Feed, *, after: int, state: dict[str, Any]) -> bool:
        """Wait for news, not for ever; return whether there are some."""
        try:
            async with asyncio.timeout(CHECK_S), feed.changed:
                await feed.changed.wait_for(lambda: feed.has_news(after=after, state=state))
        except TimeoutError:
            return False
        return True

    async def _changed(self, study: str, feed: _Feed, *, after: int) -> Sequence[tuple[int, Trial]]:
        """The next trials that changed; none if the study was deleted. A database that is away is waited for."""
        while not feed.is_deleted:
            try:
                return await run_in_threadpool(self._store.trials_changed, study, after=after, limit=_PAGE)
            except StudyNotFoundError:
                feed.is_deleted = True
            except StoreUnavailableError:
                await asyncio.sleep(_AWAY_S)
        return ()

    async def _poll(self, study: str, feed: _Feed) -> None:
        try:
            while not feed.is_deleted:
                await self._look(study, feed)
        except Exception as error:  # which each watcher raises
            feed.error = error
        finally:
            self._forget(study, feed)
        async with feed.changed:
            feed.changed.notify_all()

    async def _look(self, study: str, feed: _Feed) -> None:
        """Read what has changed, and wait for the next look."""
        try:
            last = await run_in_threadpool(self._store.last_change, study)
            feed.is_deleted = last.uid != feed.uid  # another one has its name
        except StudyNotFoundError:
            feed.is_deleted = True
        except StoreUnavailableError:  # it is back soon, or the watchers are told by their own requests
            await asyncio.sleep(_AWAY_S)
            return
        if feed.is_deleted:
            return
        condition = last.condition
        state = {"study": study, "state": condition.state.value, "reason": condition.reason}
        is_over = condition.state.is_over or condition.state is StudyState.FAILED
        if (last.number, state, is_over) != (feed.change, feed.state, feed.is_over):
            feed.change, feed.state, feed.is_over = last.number, state, is_over
            async with feed.changed:
                feed.changed.notify_all()
        await asyncio.sleep(POLL_S)

    def _forget(self, study: str, feed: _Feed) -> None:
        if self._feeds.get(study) is feed:
            del self._feeds[study]
