"""Webhooks and the outbox of their deliveries."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, delete, func, insert, select, update

from sparsesearch.errors import UserInputError
from sparsesearch.store import tables
from sparsesearch.store.audit import Actor
from sparsesearch.store.database import Database
from sparsesearch.store.outbox import queue_news
from sparsesearch.store.service_tables import deliveries, submissions, subscriptions
from sparsesearch.study.notification import Delivery, NotifiedEvent, Webhook
from sparsesearch.study.state import StudyState

_CLAIMED_S = 60.0
_KEPT_S = 30 * 86_400.0

MAX_WEBHOOKS = 100
"""Webhooks of one token."""


class SqlWebhooks:
    """The webhooks of a database whose tables exist. Safe to use from several threads and processes."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        """Use a database; see `SqlStore.webhooks`."""
        self._database = database
        self._clock = clock

    def add(self, url: str, *, events: Collection[NotifiedEvent], by: Actor) -> Webhook:
        """Add a webhook with a new secret. Raises `UserInputError` if the token has `MAX_WEBHOOKS` of them."""
        now = self._clock()
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        hook = Webhook(
            id=f"wh_{uuid4().hex}", url=url, secret=secret, events=tuple(sorted(events)), owner=by.name, created_at=now
        )

        def work(connection: Connection) -> None:
            if connection.scalar(select(subscriptions.c.id).where(subscriptions.c.id == hook.id)) is not None:
                return  # by an earlier attempt
            of_owner = select(func.count()).select_from(subscriptions).where(subscriptions.c.owner == by.name)
            if (connection.scalar(of_owner) or 0) >= MAX_WEBHOOKS:
                raise UserInputError(f"token {by.name!r} has {MAX_WEBHOOKS} webhooks; delete one of them first")
            row = {**hook.model_dump(), "events": json.dumps(hook.events)}
            connection.execute(insert(subscriptions).values(**row))
            by.note(connection, "create webhook", hook.id, at=now, after=_shown(url, hook.events))

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
            row = connection.execute(select(subscriptions).where(subscriptions.c.id == webhook_id)).first()
            if row is None and deleted:  # by an earlier attempt
                return
            if row is None:
                raise UserInputError(f"no webhook {webhook_id!r}")
            connection.execute(delete(subscriptions).where(subscriptions.c.id == webhook_id))
            deleted.append(webhook_id)
            by.note(connection, "delete webhook", webhook_id, at=now, before=_shown(row.url, json.loads(row.events)))

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

    def told_best(self, study: str | None = None) -> Mapping[str, int | None]:
        """Return the best trial that was told last, by name of submitted study: of one, or of those that run."""
        studies = tables.studies.c
        is_meant = studies.state == StudyState.RUNNING.value if study is None else studies.name == study
        query = select(studies.name, submissions.c.told_best).join(submissions).where(is_meant).order_by(studies.id)
        return self._database.read(lambda connection: {name: best for name, best in connection.execute(query)})

    def tell_best(self, study: str, number: int, data: dict[str, Any], *, was: int | None) -> bool:
        """Queue the news that a submitted study has a new best trial.

        Args:
            study: Name of the study.
            number: Number of the trial.
            data: The news, as plain data.
            was: The best trial that was told before, as it was read; nothing is queued if others have told more since.

        Returns:
            Whether it was news.
        """
        now = self._clock()

        def work(connection: Connection) -> bool:
            study_id = connection.scalar(select(tables.studies.c.id).where(tables.studies.c.name == study))
            if study_id is None:  # deleted in the meantime
                return False
            best = submissions.c.told_best
            where = (submissions.c.study_id == study_id, best.is_not_distinct_from(was), best.is_distinct_from(number))
            if connection.execute(update(submissions).where(*where).values(told_best=number)).rowcount == 0:
                return False
            queue_news(connection, study_id, NotifiedEvent.BEST, data, at=now)
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
        """Store how an attempt ended, and the body that was sent; `next_at` is the time of the next attempt.

        Old deliveries are removed.
        """
        values = {"status": status, "next_at": next_at, "body": delivery.body}
        done = update(deliveries).where(deliveries.c.id == delivery.id).values(**values)
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


def _shown(url: str, events: Sequence[str]) -> str:
    return f"{url}: {', '.join(events)}"
