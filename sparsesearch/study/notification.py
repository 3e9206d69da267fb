"""What a service tells others of its studies."""

from __future__ import annotations

from enum import StrEnum

from sparsesearch.study.state import StudyState
from sparsesearch.value import Value


class NotifiedEvent(StrEnum):
    """Something that happened to a submitted study.

    Attributes:
        STARTED: A controller started it, or went on with it.
        BEST: There is a new best schedule.
        FINISHED: It is finished.
        PAUSED: It was paused.
        FAILED: It cannot continue.
        CANCELLED: It was cancelled.
    """

    STARTED = "study.started"
    BEST = "study.best"
    FINISHED = "study.finished"
    PAUSED = "study.paused"
    FAILED = "study.failed"
    CANCELLED = "study.cancelled"

    @classmethod
    def of(cls, state: StudyState) -> NotifiedEvent | None:
        """What it means that a study is in a state; None if that is no news."""
        return _OF_STATE.get(state)


_OF_STATE = {
    StudyState.RESOLVING: NotifiedEvent.STARTED,
    StudyState.RUNNING: NotifiedEvent.STARTED,
    StudyState.FINISHED: NotifiedEvent.FINISHED,
    StudyState.PAUSED: NotifiedEvent.PAUSED,
    StudyState.FAILED: NotifiedEvent.FAILED,
    StudyState.CANCELLED: NotifiedEvent.CANCELLED,
}


class Webhook(Value):
    """An address that is told of events.

    Attributes:
        id: Its unique id.
        url: The address.
        secret: The key of its signatures, `whsec_` and base64.
        events: What it is told of.
        owner: Name of the token that added it.
        created_at: Unix time of its creation.
    """

    id: str
    url: str
    secret: str
    events: tuple[NotifiedEvent, ...]
    owner: str
    created_at: float


class Delivery(Value):
    """A message to a webhook.

    Attributes:
        id: Its unique id, the same in each attempt.
        webhook_id: The webhook.
        event: What happened.
        study: Name of the study.
        body: The message, JSON.
        attempts: Number of attempts that were begun.
        next_at: Unix time of the next attempt; None if there will be none.
        status: `waiting`, `delivered`, or the error of the last attempt.
        created_at: Unix time at which it was queued.
    """

    id: str
    webhook_id: str
    event: NotifiedEvent
    study: str
    body: str
    attempts: int
    next_at: float | None
    status: str
    created_at: float
