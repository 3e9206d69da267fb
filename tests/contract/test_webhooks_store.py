"""Webhooks and their deliveries, on SQLite and on PostgreSQL."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from queued import ANA, BEN, Clock, claim, opening, spec, submit
from sqlalchemy import Connection, delete

from sparsesearch.errors import UserInputError
from sparsesearch.store.outbox import write_condition
from sparsesearch.store.service_tables import subscriptions
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.notification import Delivery, NotifiedEvent, Webhook
from sparsesearch.study.state import StopRequest, StudyCondition, StudyState

FINISHED, BEST = NotifiedEvent.FINISHED, NotifiedEvent.BEST
DAY_S = 86_400.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgres"])
def open_again(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Callable[[], SqlStore]]:
    url = f"sqlite:///{tmp_path}/a.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with opening(url, clock) as again:
        yield again


@pytest.fixture
def store(open_again: Callable[[], SqlStore]) -> SqlStore:
    """A store with a study in its queue."""
    store = open_again()
    submit(store, "digits")
    return store


def add(store: SqlStore, *events: NotifiedEvent) -> Webhook:
    return store.webhooks.add("http://a/b", events=events or tuple(NotifiedEvent), by=ANA)


STATES = {
    NotifiedEvent.STARTED: StudyState.RUNNING,
    NotifiedEvent.PAUSED: StudyState.PAUSED,
    NotifiedEvent.FINISHED: StudyState.FINISHED,
}


def tell(store: SqlStore, event: NotifiedEvent = FINISHED, study: str = "digits") -> None:
    """Bring a study into a state, whatever its state was."""
    with store._database.writing() as connection:
        row, _, now = store.found(connection, study)
        write_condition(connection, row["id"], StudyCondition(state=STATES[event]), at=now.time)


def tell_best(store: SqlStore) -> bool:
    return store.webhooks.tell_best("digits", 7, {}, was=None)


def due(store: SqlStore) -> list[str]:
    return [delivery.id for delivery, _ in store.webhooks.due()]


class TestWebhooks:
    def test_they_are_kept_as_they_are(self, store: SqlStore, open_again: Callable[[], SqlStore], clock: Clock) -> None:
        first = store.webhooks.add("http://a/b", events=[FINISHED, BEST], by=BEN)
        assert (first.url, first.owner, first.created_at) == ("http://a/b", "ben", clock.now)
        assert first.events == (BEST, FINISHED)
        kind, _, key = first.secret.partition("_")
        assert (kind, len(base64.b64decode(key, validate=True))) == ("whsec", 24)
        clock.now += 1
        second = add(store)
        assert second.secret != first.secret
        assert open_again().webhooks.all() == [first, second]

    def test_deleting_removes_what_they_are_to_be_told(self, store: SqlStore) -> None:
        hook, other = add(store), add(store)
        tell(store)
        store.webhooks.delete(hook.id, by=BEN)
        assert store.webhooks.all() == [other]
        assert store.webhooks.deliveries(hook.id) == []
        assert [hook.id for _, hook in store.webhooks.due()] == [other.id]
        with pytest.raises(UserInputError, match="no webhook 'wh_"):
            store.webhooks.delete(hook.id, by=BEN)

    def test_the_trail_says_who_did_it(self, store: SqlStore) -> None:
        hook = add(store, FINISHED)
        store.webhooks.delete(hook.id, by=BEN)
        with pytest.raises(UserInputError):
            store.webhooks.delete(hook.id, by=ANA)
        entries = store.queue.audit(what=hook.id)[::-1]
        assert [(entry.who, entry.action, entry.after) for entry in entries] == [
            ("ana", "create webhook", "http://a/b: study.finished"),
            ("ben", "delete webhook", None),
        ]
        assert not any(hook.secret in str(entry) for entry in entries)


class TestTelling:
    def test_news_is_told_once(self, store: SqlStore, clock: Clock) -> None:
        hook = add(store)
        tell(store)
        tell(store)
        (found,) = store.webhooks.deliveries(hook.id)
        assert found == Delivery(
            id=found.id,
            webhook_id=hook.id,
            event=FINISHED,
            study="digits",
            body=found.body,
            attempts=0,
            next_at=clock.now,
            status="waiting",
            created_at=clock.now,
        )
        assert json.loads(found.body) == {
            "type": "study.finished",
            "timestamp": clock.now,
            "data": {"study": "digits", "state": "FINISHED", "reason": None},
        }

    def test_to_those_who_want_it(self, store: SqlStore) -> None:
        both, none, one = add(store), add(store, NotifiedEvent.FAILED), add(store, FINISHED)
        tell(store)
        assert [len(store.webhooks.deliveries(hook.id)) for hook in (both, none, one)] == [1, 0, 1]

    def test_what_happens_again_is_news_again(self, store: SqlStore, clock: Clock) -> None:
        hook = add(store)
        for event in (NotifiedEvent.STARTED, NotifiedEvent.PAUSED, NotifiedEvent.STARTED):
            clock.now += 1
            tell(store, event)
        for best, was, is_news in ((3, None, True), (3, 3, False), (8, None, False), (8, 3, True)):
            clock.now += 1
            assert store.webhooks.tell_best("digits", best, {}, was=was) is is_news
        events = [delivery.event for delivery in store.webhooks.deliveries(hook.id)[::-1]]
        assert events == [NotifiedEvent.STARTED, NotifiedEvent.PAUSED, NotifiedEvent.STARTED, BEST, BEST]
        assert [delivery.event for delivery in store.webhooks.deliveries(hook.id, limit=1)] == [BEST]

    def test_of_studies_that_were_not_submitted_nothing_is_told(self, store: SqlStore) -> None:
        add(store)
        store.submit_study(spec("other"))
        tell(store, study="other")
        assert not store.webhooks.tell_best("other", 3, {}, was=None)
        assert not store.webhooks.tell_best("none", 3, {}, was=None)
        assert store.webhooks.due() == []

    def test_one_of_several_tells_it(self, store: SqlStore, open_again: Callable[[], SqlStore]) -> None:
        hook = add(store)
        stores = [store, open_again(), open_again(), open_again()]
        assert sorted(_together(stores, tell_best)) == [False, False, False, True]
        assert len(store.webhooks.deliveries(hook.id)) == 1

    def test_a_webhook_that_is_deleted_meanwhile_is_not_told(
        self, store: SqlStore, open_again: Callable[[], SqlStore]
    ) -> None:
        hook, other = add(store), add(store)
        second = open_again()
        outcomes: list[object] = []
        thread = threading.Thread(target=lambda: outcomes.extend(_together([second], tell_best)))
        with store._database.writing() as connection:
            connection.execute(delete(subscriptions).where(subscriptions.c.id == hook.id))
            thread.start()
            thread.join(timeout=0.5)
        thread.join()
        assert outcomes == [True]
        assert len(store.webhooks.deliveries(other.id)) == 1

    def test_whoever_changes_a_state_tells_it(self, store: SqlStore, clock: Clock) -> None:
        hook = add(store)

        def later() -> None:
            clock.now += 1

        for state in (StudyState.FAILED, StudyState.FAILED):
            later()
            writer = store.open_claimed("digits", claim(store).lease)
            writer.set_state(StudyState.RUNNING)
            later()
            writer.set_state(state, reason="no luck")
            writer.close()
            later()
            store.queue.enqueue("digits", by=ANA)
        running_ = store.open_claimed("digits", claim(store).lease)
        later()
        running_.close()  # with Ctrl-C
        later()
        with closing(store.open_study("digits", resume=True)):  # by hand
            later()
            store.queue.request("digits", StopRequest.PAUSE, by=ANA)
        later()
        store.queue.request("digits", StopRequest.CANCEL, by=ANA)
        events = [delivery.event.value.removeprefix("study.") for delivery in store.webhooks.deliveries(hook.id)[::-1]]
        assert events == [*["started", "failed"] * 2, *["started", "paused"] * 2, "cancelled"]

    def test_a_state_that_is_not_stored_is_not_told(self, store: SqlStore) -> None:
        hook = add(store)

        def fail(connection: Connection) -> None:
            row, _, now = store.found(connection, "digits")
            write_condition(connection, row["id"], StudyCondition(state=StudyState.FAILED), at=now.time)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            store._database.write(fail)
        assert store.webhooks.deliveries(hook.id) == []

    def test_the_best_that_were_told(self, store: SqlStore) -> None:
        submit(store, "other")
        tell(store, NotifiedEvent.STARTED, "other")
        store.webhooks.tell_best("other", 5, {}, was=None)
        assert store.webhooks.told_best() == {"other": 5}
        assert store.webhooks.told_best("digits") == {"digits": None}

    def test_what_a_state_means(self) -> None:
        news = {state: NotifiedEvent.of(state) for state in StudyState}
        assert {state for state, event in news.items() if event is None} == {StudyState.QUEUED, StudyState.STOPPING}
        assert set(news.values()) == {None, *NotifiedEvent} - {BEST}


class TestDelivering:
    def test_one_taker_has_a_minute(self, store: SqlStore, open_again: Callable[[], SqlStore], clock: Clock) -> None:
        hook = add(store)
        tell(store)
        ((delivery, to),) = store.webhooks.due()
        assert (delivery.study, to) == ("digits", hook)
        other = open_again()
        assert due(other) == []
        clock.now += 59
        assert due(other) == []
        clock.now += 1
        assert due(other) == [delivery.id]
        assert store.webhooks.deliveries(hook.id)[0].attempts == 2

    def test_several_take_different_ones(self, store: SqlStore, open_again: Callable[[], SqlStore]) -> None:
        for _ in range(30):
            add(store)
        tell(store)

        def take(store: SqlStore) -> list[str]:
            return [one for page in iter(lambda: due(store), []) for one in page]

        taken = _together([store, open_again(), open_again()], take)
        ids = [one for page in taken for one in page]
        assert len(ids) == len(set(ids)) == 30

    def test_the_oldest_are_first_and_not_too_many(self, store: SqlStore, clock: Clock) -> None:
        hook = add(store)
        for event in (NotifiedEvent.STARTED, NotifiedEvent.PAUSED, FINISHED):
            tell(store, event)
            clock.now += 1
        pages = [store.webhooks.due(limit=2) for _ in range(3)]
        events = [[delivery.event for delivery, _ in page] for page in pages]
        assert events == [[NotifiedEvent.STARTED, NotifiedEvent.PAUSED], [FINISHED], []]
        assert all(to == hook for page in pages for _, to in page)

    def test_how_it_ended_is_kept(self, store: SqlStore, clock: Clock) -> None:
        hook = add(store)
        tell(store)
        ((delivery, _),) = store.webhooks.due()
        store.webhooks.settle(delivery, status="HTTP 503", next_at=clock.now + 5)
        clock.now += 5
        assert due(store) == [delivery.id]
        assert store.webhooks.deliveries(hook.id)[0].status == "HTTP 503"
        store.webhooks.settle(delivery, status="delivered", next_at=None)
        clock.now += DAY_S
        assert due(store) == []
        (found,) = store.webhooks.deliveries(hook.id)
        assert (found.status, found.next_at, found.attempts) == ("delivered", None, 2)

    def test_settled_ones_are_forgotten_after_a_month(self, store: SqlStore, clock: Clock) -> None:
        hook = add(store)
        tell(store, NotifiedEvent.STARTED)
        tell(store, NotifiedEvent.PAUSED)
        (started, _), (paused, _) = store.webhooks.due()
        store.webhooks.settle(started, status="delivered", next_at=None)
        clock.now += 31 * DAY_S
        tell(store)
        store.webhooks.settle(paused, status="HTTP 503", next_at=clock.now + 5)
        assert {delivery.event for delivery in store.webhooks.deliveries(hook.id)} == {paused.event, FINISHED}

    def test_they_outlive_the_study(self, store: SqlStore) -> None:
        hook = add(store)
        tell(store)
        store.queue.delete("digits", by=ANA)
        assert len(store.webhooks.deliveries(hook.id)) == len(due(store)) == 1
        store.webhooks.delete(hook.id, by=ANA)
        store.webhooks.settle(Delivery.model_construct(id="msg_gone", body=""), status="delivered", next_at=None)


def _together(stores: list[SqlStore], work: Callable[[SqlStore], object]) -> list[object]:
    """What calls return, or the exceptions that they raise, made at the same time in different stores."""
    start = threading.Barrier(len(stores))
    outcomes: list[object] = []

    def run(store: SqlStore) -> None:
        start.wait()
        try:
            outcomes.append(work(store))
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
