"""News of studies, queued for webhooks in the transaction that makes them."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, exists, insert, or_, select, update

from sparsesearch.store import codec, tables
from sparsesearch.store.service_tables import deliveries, submissions, subscriptions, tokens
from sparsesearch.study.notification import NotifiedEvent
from sparsesearch.study.state import StudyCondition


def write_condition(connection: Connection, study_id: int, condition: StudyCondition, *, at: float) -> None:
    """Write the condition of a study, and queue the news of it.

    Args:
        connection: The transaction.
        study_id: Id of the study.
        condition: Its condition.
        at: Unix time of the news.
    """
    values = codec.condition_to_row(condition)
    connection.execute(update(tables.studies).where(tables.studies.c.id == study_id).values(**values))
    queue_state(connection, study_id, condition, at=at)


def queue_state(connection: Connection, study_id: int, condition: StudyCondition, *, at: float) -> None:
    """Queue the news that a study is in a state, unless that is what was told last; only of submitted studies."""
    event = NotifiedEvent.of(condition.state)
    if event is None:
        return
    is_other = submissions.c.told_state.is_distinct_from(event.value)
    mark = update(submissions).where(submissions.c.study_id == study_id, is_other).values(told_state=event.value)
    if connection.execute(mark).rowcount == 1:
        queue_news(connection, study_id, event, {"state": condition.state.value, "reason": condition.reason}, at=at)


def queue_news(connection: Connection, study_id: int, event: NotifiedEvent, data: dict[str, Any], *, at: float) -> None:
    """Queue news for all webhooks that want them, of tokens that are valid.

    Args:
        connection: The transaction.
        study_id: Id of the study.
        event: What happened.
        data: The news, as plain data.
        at: Unix time.
    """
    ended = or_(tokens.c.revoked_at.is_not(None), tokens.c.expires_at <= at)
    of_valid_tokens = ~exists().where(tokens.c.name == subscriptions.c.owner, ended)
    # Not one that another transaction deletes.
    hooks = (
        select(subscriptions.c.id, subscriptions.c.events)
        .where(of_valid_tokens)
        .with_for_update(read=True, key_share=True, of=subscriptions)
    )
    wanted = [row.id for row in connection.execute(hooks) if event.value in json.loads(row.events)]
    if not wanted:
        return
    study = connection.scalar(select(tables.studies.c.name).where(tables.studies.c.id == study_id))
    body = json.dumps({"type": event.value, "timestamp": at, "data": {"study": study, **data}}, sort_keys=True)
    same = {"event": event.value, "study": study, "body": body, "attempts": 0, "created_at": at, "next_at": at}
    rows = [{"id": f"msg_{uuid4().hex}", "webhook_id": hook, "status": "waiting", **same} for hook in wanted]
    connection.execute(insert(deliveries), rows)
