"""The changes of a study as a stream, from a real server, while another thread makes them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import pytest
import requests
from queued_studies import begun, finished
from sample_study import DEIT_SMALL, MadeUpEvaluator, sample_spec
from served import API, Api, bearer, line

from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.errors import StoreUnavailableError, StoreVersionError
from sparsesearch.search.controller import StagedController
from sparsesearch.service import event_feed
from sparsesearch.store.audit import Actor
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.events import Event
from sparsesearch.study.protocols import Controller
from sparsesearch.study.state import StopRequest, StudyState
from sparsesearch.study.trial import Trial

ANN = Actor("ann")


class Received(NamedTuple):
    id: str
    kind: str
    data: dict[str, Any]

    @property
    def number(self) -> int:
        """Number of the change in the study."""
        return int(self.id.rpartition("-")[2])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_feed, "POLL_S", 0.05)
    monkeypatch.setattr(event_feed, "_AWAY_S", 0.1)


@contextmanager
def stream(api: Api, address: str, study: str, *, after: object = None) -> Iterator[Iterator[Received]]:
    """The events of a study, read by what the standard of server-sent events says."""
    headers = bearer(api.secrets["rita"]) | ({} if after is None else {"Last-Event-ID": str(after)})
    url = f"{address}{API}/studies/{study}/events"
    with requests.get(url, headers=headers, stream=True, timeout=30) as answer:
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "no-cache" in answer.headers["cache-control"]

        def events() -> Iterator[Received]:
            fields: dict[str, str] = {}
            for text in answer.iter_lines(chunk_size=1, decode_unicode=True):
                if text.startswith(":"):
                    continue
                if text:
                    key, _, value = text.partition(": ")
                    assert key not in fields
                    fields[key] = value
                elif fields:
                    assert set(fields) == {"event", "data", "id", "retry"}
                    yield Received(fields["id"], fields["event"], json.loads(fields["data"]))
                    fields = {}

        yield events()


class SlowEvaluator(MadeUpEvaluator):
    def evaluate(self, trial: Trial) -> Iterator[Event]:
        for event in super().evaluate(trial):
            time.sleep(0.02)
            yield event


@pytest.fixture
def search(api: Api) -> Iterator[Callable[[], None]]:
    """Starts the study `sample` in a thread."""
    spec = sample_spec()
    api.store.queue.submit(spec, by=ANN)
    threads: list[threading.Thread] = []

    def run() -> None:
        claim = api.store.queue.claim()
        assert claim is not None
        writer = api.store.open_claimed("sample", claim.lease)
        controller: Controller = StagedController(spec, DEIT_SMALL)
        InlineDispatcher().run(controller, writer, SlowEvaluator())
        writer.set_state(StudyState.FINISHED)
        writer.close()

    def start() -> None:
        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()


def check_complete(events: list[Received], store: SqlStore) -> None:
    """Check that trials are in order, none is repeated, and the last of each is what is stored."""
    trials = [event for event in events if event.kind == "trial"]
    numbers = [event.number for event in trials]
    assert numbers == sorted(set(numbers))
    last = {event.data["id"]: event.data for event in trials}
    assert last == {trial.number: json.loads(json.dumps(trial.public())) for trial in store.trials("sample")}


def test_events_come_in_order_while_a_study_runs(api: Api, address: str, search: Callable[[], None]) -> None:
    with stream(api, address, "sample") as events:
        first = next(events)
        assert first[1:] == ("study", {"study": "sample", "state": "QUEUED", "reason": None})
        assert first.number == 0
        search()
        found = list(events)
    check_complete(found, api.store)
    running = [event for event in found if event.kind == "trial" and event.data["state"] == "RUNNING"]
    assert running, "trials are shown before they have ended"
    states = [event.data["state"] for event in found if event.kind == "study"]
    assert states[-2:] == ["RUNNING", "FINISHED"]
    assert [event.kind for event in found[-2:]] == ["study", "end"]
    assert found[-1].data["state"] == "FINISHED"


def test_nothing_is_missed_or_repeated_when_a_connection_is_lost(
    api: Api, address: str, search: Callable[[], None]
) -> None:
    search()
    received: list[Received] = []
    connections, last = 0, None
    while not received or received[-1].kind != "end":
        connections += 1
        with stream(api, address, "sample", after=last) as events:
            for event, _ in zip(events, range(4), strict=False):
                received.append(event)
                last = event.id
    assert connections > 5
    check_complete(received, api.store)


def test_a_study_that_is_over_is_sent_at_once(api: Api, address: str) -> None:
    finished(api.store, evaluations=220, finalists=0)  # more than one page
    with stream(api, address, "sample") as events:
        found = list(events)
    assert len(found) > 200
    check_complete(found, api.store)
    assert [event.kind for event in found[-2:]] == ["study", "end"]
    with stream(api, address, "sample", after=found[-1].id) as events:
        assert [event.kind for event in events] == ["study", "end"]


@pytest.mark.parametrize("state", [StudyState.FAILED, StudyState.FINISHED, StudyState.CANCELLED])
def test_it_ends_with_the_study(api: Api, address: str, state: StudyState) -> None:
    writer = begun(api.store, sample_spec())
    with stream(api, address, "sample") as events:
        assert next(events).data["state"] == "RUNNING"
        writer.set_state(state, reason="because")
        assert [(event.kind, event.data["state"], event.data["reason"]) for event in events] == [
            ("study", state.value, "because"),
            ("end", state.value, "because"),
        ]


def test_it_does_not_end_with_a_pause(api: Api, address: str) -> None:
    api.store.queue.submit(sample_spec(), by=ANN)
    with stream(api, address, "sample") as events:
        assert next(events).data["state"] == "QUEUED"
        api.store.queue.request("sample", StopRequest.PAUSE, by=ANN)
        assert next(events).data["state"] == "PAUSED"
        api.store.queue.enqueue("sample", by=ANN)
        assert next(events).data["state"] == "QUEUED"


def test_it_ends_with_a_study_that_is_deleted(api: Api, address: str) -> None:
    finished(api.store)
    api.store.queue.submit(sample_spec("other"), by=ANN)
    with stream(api, address, "other") as events:
        next(events)
        api.store.queue.delete("other", by=ANN)
        assert [(event.kind, event.data) for event in events] == [("end", {"study": "other", "state": "DELETED"})]
    api.store.queue.submit(sample_spec("other"), by=ANN)
    with stream(api, address, "other") as events:
        assert next(events).data["state"] == "QUEUED", "of the new one"


def test_it_ends_if_another_study_takes_the_name(api: Api, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = begun(api.store, sample_spec("other"))
    controller: Controller = StagedController(writer.spec, DEIT_SMALL)
    InlineDispatcher().run(controller, writer, MadeUpEvaluator())
    monkeypatch.setattr(event_feed, "POLL_S", 1.0)
    with stream(api, address, "other") as events:
        while next(events).kind != "study":
            pass
        writer.close()
        api.store.queue.delete("other", by=ANN)
        api.store.queue.submit(sample_spec("other"), by=ANN)
        with stream(api, address, "other") as events_of_new:
            assert next(events_of_new).data["state"] == "QUEUED", "while the old one is still watched"
        assert [event.data["state"] for event in events] == ["DELETED"]


def test_an_unknown_study(api: Api, address: str) -> None:
    answer = requests.get(f"{address}{API}/studies/nothing/events", headers=bearer(api.secrets["rita"]), timeout=10)
    assert answer.status_code == 404
    assert line(answer) == "no study 'nothing'"


@pytest.mark.parametrize("after", ["", "x", "-1", "1.5", "9" * 5000, "0x10", "1e3"])
def test_an_id_that_is_none_begins_at_the_beginning(api: Api, address: str, after: str) -> None:
    finished(api.store)
    with stream(api, address, "sample", after=after) as events:
        check_complete(list(events), api.store)


def test_an_id_of_what_is_no_longer_stored_begins_at_the_beginning(api: Api, address: str) -> None:
    finished(api.store)
    uid = api.store.uid("sample")
    for after in (f"{uid[:12]}-{'9' * 18}", f"{'0' * 12}-3", "3"):
        with stream(api, address, "sample", after=after) as events:
            check_complete(list(events), api.store)


def test_an_id_of_another_study_of_that_name(api: Api, address: str) -> None:
    finished(api.store)
    with stream(api, address, "sample") as events:
        last = list(events)[-1].id
    api.store.queue.delete("sample", by=ANN)
    finished(api.store, evaluations=24)
    with stream(api, address, "sample", after=last) as events:
        check_complete(list(events), api.store)


def test_it_ends_with_the_token(api: Api, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_feed, "CHECK_S", 0.2)
    api.store.queue.submit(sample_spec(), by=ANN)
    with stream(api, address, "sample") as events:
        next(events)
        time.sleep(0.5)
        api.store.queue.request("sample", StopRequest.PAUSE, by=ANN)
        assert next(events).data["state"] == "PAUSED", "the token is valid"
        api.store.tokens.revoke("rita", by=ANN)
        assert list(events) == []


def test_so_many_streams_for_one_token(api: Api, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_feed, "MAX_STREAMS", 2)
    api.store.queue.submit(sample_spec(), by=ANN)
    url, headers = f"{address}{API}/studies/sample/events", bearer(api.secrets["rita"])
    with stream(api, address, "sample") as one:
        next(one)
        with stream(api, address, "sample") as other:
            next(other)
            answer = requests.get(url, headers=headers, timeout=10)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
            assert "has too many streams of events open" in line(answer)
    end = time.monotonic() + 20
    while not api.app.state.feeds.has_room("rita"):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_failure_is_not_waited_for_for_ever(api: Api, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    api.store.queue.submit(sample_spec(), by=ANN)
    with stream(api, address, "sample") as events:
        next(events)

        def broken(name: str) -> None:
            raise StoreVersionError("upgraded meanwhile")

        monkeypatch.setattr(api.store, "last_change", broken, raising=False)
        with suppress(requests.RequestException):
            assert list(events) == []
    assert api.app.state.feeds._feeds == {}


def test_many_watchers_ask_the_database_once(api: Api, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    api.store.queue.submit(sample_spec(), by=ANN)
    looks: list[float] = []
    last_change = api.store.last_change

    def counted(name: str) -> object:
        looks.append(time.monotonic())
        return last_change(name)

    monkeypatch.setattr(api.store, "last_change", counted, raising=False)
    monkeypatch.setattr(event_feed, "POLL_S", 0.2)
    received: list[list[str]] = []
    ready = threading.Barrier(31)

    def watch() -> None:
        with stream(api, address, "sample") as events:
            found = [next(events).data["state"]]
            ready.wait(30)
            received.append([*found, *(event.data["state"] for event in events)])

    threads = [threading.Thread(target=watch) for _ in range(30)]
    for thread in threads:
        thread.start()
    ready.wait(30)
    looks.clear()
    time.sleep(2)
    assert 3 <= len(looks) <= 11
    api.store.queue.request("sample", StopRequest.CANCEL, by=ANN)
    for thread in threads:
        thread.join()
    assert received == [["QUEUED", "CANCELLED", "CANCELLED"]] * 30
    time.sleep(0.5)
    looks.clear()
    time.sleep(0.5)
    assert looks == [], "nobody watches any more"
    assert api.app.state.feeds._feeds == {}


def test_watchers_that_leave_are_forgotten(api: Api, address: str) -> None:
    api.store.queue.submit(sample_spec(), by=ANN)
    for _ in range(5):
        with stream(api, address, "sample") as events:
            next(events)
    end = time.monotonic() + 20
    while api.app.state.feeds._feeds:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_database_that_is_away_for_a_while(
    api: Api, address: str, search: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    away = [False]
    for name in ("last_change", "trials_changed"):
        asked = getattr(api.store, name)

        def ask(*arguments: object, asked: Callable[..., object] = asked, **more: object) -> object:
            if away[0]:
                raise StoreUnavailableError("the database is away")
            return asked(*arguments, **more)

        monkeypatch.setattr(api.store, name, ask, raising=False)
    with stream(api, address, "sample") as events:
        found = [next(events)]
        search()
        for _ in range(3):
            found.append(next(events))
            away[0] = True
            time.sleep(0.3)
            away[0] = False
        found += events
    check_complete(found, api.store)
