"""Webhooks and the outbox of their deliveries."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, and_, delete, insert, or_, select, update

from sparsesearch.errors import UserInputError
from sparsesearch.store import tables
from sparsesearch.store.audit import Actor
from sparsesearch.store.database import Database
from sparsesearch.store.service_tables import deliveries, submissions, subscriptions
from sparsesearch.study.notification import Delivery, NotifiedEvent, Webhook
from sparsesearch.study.state import StudyState

_CLAIMED_S = 60.0
_KEPT_S = 30 * 86_400.0


class SqlWebhooks:
    """The webhooks of a database whose tables exist. Safe to use from several threads and processes."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        """Use a database; see `SqlStore.webhooks`."""
        self._database = database
        self._clock = clock

    def add(self, url: str, *, events: Collection[NotifiedEvent], by: Actor) -> Webhook:
        """Add a webhook with a new secret."""
        now = self._clock()
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        hook = Webhook(
            id=f"wh_{uuid4().hex}", url=url, secret=secret, events=tuple(sorted(events)), owner=by.name, created_at=now
        )

        def work(connection: Connection) -> None:
            if connection.scalar(select(subscriptions.c.id).where(subscriptions.c.id == hook.id)) is not None:
                return  # by an earlier attempt
            row = {**hook.model_dump(), "events": json.dumps(hook.events)}
            connection.execute(insert(subscriptions).values(**row))
            by.note(connection, "create webhook", hook.id, at=now, after=f"{url}: {', '.join(hook.events)}")

        self._database.write(work)
        return hook

    def all(self) -> Sequence[Webhook]:
        """Return all webhooks, oldest first."""
        query = select(subscriptions).order_by(subscriptions.c.created_at, subscriptions.c.id)
        rows = self._database.read(lambda connection: connection.execute(query).mappings().all())
        return [Webhook(**{**row, "events": tuple(json.loads(row["events"]))}) for row in rows]

    def delete(self, webhook_id: str, *, by: Actor) -> None:
        """Remove a webhook with its deliveries. Raises `UserInputError` if it does not exist."""
        now = self._clock()
        deleted: list[str] = []

        def work(connection: Connection) -> None:
            if connection.execute(delete(subscriptions).where(subscriptions.c.id == webhook_id)).rowcount == 0:
                if deleted:  # by an earlier attempt
                    return
                raise UserInputError(f"no webhook {webhook_id!r}")
            deleted.append(webhook_id)
            by.note(connection, "delete webhook", webhook_id, at=now)

        self._database.write(work)

    def deliveries(self, webhook_id: str, *, limit: int = 100) -> Sequence[Delivery]:
        """Return the newest deliveries of a webhook, newest first."""
        query = (
            select(deliveries)
            .where(deliveries.c.webhook_id == webhook_id)
            .order_by(deliveries.c.created_at.desc(), deliveries.c.id)
            .limit(limit)
        )
        rows = self._database.read(lambda connection: connection.execute(query).mappings().all())
        return [Delivery(**row) for row in rows]

    def to_look_at(self) -> Sequence[tuple[str, str | None, int | None]]:
        """Return the submitted studies of which there may be news: name, and the state and best that were told last."""
        states = [(state, NotifiedEvent.of(state)) for state in StudyState]
        is_news = or_(
            *(
                and_(tables.studies.c.state == state.value, submissions.c.told_state.is_distinct_from(event.value))
                for state, event in states
                if event is not None
            ),
            tables.studies.c.state == StudyState.RUNNING.value,
        )
        query = (
            select(tables.studies.c.name, submissions.c.told_state, submissions.c.told_best)
            .join(submissions)
            .where(is_news)
            .order_by(tables.studies.c.id)
        )
        return self._database.read(lambda connection: [tuple(row) for row in connection.execute(query)])

    def tell(
        self,
        study: str,
        event: NotifiedEvent,
        data: dict[str, Any],
        *,
        told: dict[str, Any],
        was: dict[str, Any] | None = None,
    ) -> bool:
        """Queue the news of a study for all webhooks that want it, once.

        Args:
            study: Name of the study.
            event: What happened.
            data: The news, as plain data.
            told: Columns of its submission that say that it was told; nothing is queued if they are so already.
            was: Columns as they were when the news were found; nothing is queued if others have told more since.

        Returns:
            Whether it was news.
        """
        now = self._clock()
        body = json.dumps({"type": event.value, "timestamp": now, "data": {"study": study, **data}}, sort_keys=True)

        def work(connection: Connection) -> bool:
            named = select(tables.studies.c.id).where(tables.studies.c.name == study).scalar_subquery()
            other = or_(*(submissions.c[name].is_distinct_from(value) for name, value in told.items()))
            same = [submissions.c[name].is_not_distinct_from(value) for name, value in (was or {}).items()]
            mark = update(submissions).where(submissions.c.study_id == named, other, *same).values(**told)
            if connection.execute(mark).rowcount == 0:
                return False
            # Not one that another transaction deletes.
            hooks = select(subscriptions.c.id, subscriptions.c.events).with_for_update(read=True, key_share=True)
            for row in connection.execute(hooks):
                if event.value in json.loads(row.events):
                    values = {"webhook_id": row.id, "event": event.value, "study": study, "body": body, "attempts": 0}
                    new = {"id": f"msg_{uuid4().hex}", "next_at": now, "status": "waiting", "created_at": now}
                    connection.execute(insert(deliveries).values(**values, **new))
            return True

        return self._database.write(work)

    def due(self, *, limit: int = 20) -> Sequence[tuple[Delivery, Webhook]]:
        """Take deliveries that are due, so that no other process sends them within a minute."""

        def work(connection: Connection) -> list[tuple[Delivery, Webhook]]:
            now = self._clock()
            query = (
                select(deliveries)
                .where(deliveries.c.next_at <= now)
                .order_by(deliveries.c.next_at)
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
            found = [Delivery(**row) for row in connection.execute(query).mappings()]
            hooks = {hook.id: hook for hook in self._all(connection)} if found else {}
            for one in found:
                taken = update(deliveries).where(deliveries.c.id == one.id)
                connection.execute(taken.values(next_at=now + _CLAIMED_S, attempts=one.attempts + 1))
            return [(one, hooks[one.webhook_id]) for one in found]

        return self._database.write(work)

    def settle(self, delivery: Delivery, *, status: str, next_at: float | None) -> None:
        """Store how an attempt ended; `next_at` is the time of the next one. Old deliveries are removed."""
        done = update(deliveries).where(deliveries.c.id == delivery.id).values(status=status, next_at=next_at)
        old = delete(deliveries).where(
            deliveries.c.next_at.is_(None), deliveries.c.created_at < self._clock() - _KEPT_S
        )

        def work(connection: Connection) -> None:
            connection.execute(done)
            connection.execute(old)

        self._database.write(work)

    @staticmethod
    def _all(connection: Connection) -> list[Webhook]:
        rows = connection.execute(select(subscriptions)).mappings()
        return [Webhook(**{**row, "events": tuple(json.loads(row["events"]))}) for row in rows]
