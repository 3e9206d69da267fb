"""The places of studies in the queue."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping

from sparsesearch.store.sql import SqlStore
from sparsesearch.study.submission import Submission


def queue_places(store: SqlStore) -> dict[str, int]:
    """The places of all queued studies, from 1, in the order in which they would be taken if none ended before."""
    return in_order(*store.queue.waiting())


def in_order(queued: Mapping[str, Submission], running: Mapping[str, int]) -> dict[str, int]:
    """The places of submissions: by priority, then those of owners with fewer studies under way, then by age.

    Args:
        queued: The submissions, by study.
        running: Number of studies under way, by owner.
    """
    order: list[str] = []
    busy = Counter(running)
    by_age = sorted(queued, key=lambda name: (-queued[name].priority, queued[name].submitted_at))
    for priority in dict.fromkeys(queued[name].priority for name in by_age):
        order += _fair((name for name in by_age if queued[name].priority == priority), queued, busy)
    return {name: place for place, name in enumerate(order, start=1)}


def _fair(names: Iterable[str], queued: Mapping[str, Submission], busy: Counter[str]) -> list[str]:
    """Studies of one priority, of which each that is taken counts for its owner."""
    by_owner: dict[str, deque[str]] = defaultdict(deque)
    for name in names:
        by_owner[queued[name].owner].append(name)
    order = []
    while by_owner:
        owner = min(by_owner, key=lambda one: (busy[one], queued[by_owner[one][0]].submitted_at))
        order.append(by_owner[owner].popleft())
        busy[owner] += 1
        if not by_owner[owner]:
            del by_owner[owner]
    return order
