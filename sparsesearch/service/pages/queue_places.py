"""The places of studies in the queue."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping

from sparsesearch.store.sql import SqlStore
from sparsesearch.study.digest import StudySummary
from sparsesearch.study.state import StudyState
from sparsesearch.study.submission import Submission

_AT_ONCE = 200


def queue_places(store: SqlStore) -> dict[str, int]:
    """The places of all queued studies, from 1, in the order in which they would be taken if none ended before."""
    counts = store.service_numbers().studies
    waiting = counts.get(StudyState.QUEUED.value, 0)
    left = waiting + sum(count for state, count in counts.items() if StudyState(state).is_active)
    found: list[StudySummary] = []
    skip, total = 0, sum(counts.values())
    while waiting and len(found) < left and skip < total:
        read = store.summaries(newest=_AT_ONCE, skip=skip)
        found += [one for one in read if one.condition.state is StudyState.QUEUED or one.condition.state.is_active]
        skip += _AT_ONCE
    submissions = store.queue.submissions([one.spec.name for one in found])
    known = [(one, submissions[one.spec.name]) for one in found if one.spec.name in submissions]
    running = Counter(submission.owner for one, submission in known if one.condition.state.is_active)
    return in_order(
        {one.spec.name: submission for one, submission in known if one.condition.state is StudyState.QUEUED}, running
    )


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
