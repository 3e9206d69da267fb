"""What happens to submitted studies on the way, on SQLite and on PostgreSQL, and who did it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from queued import ANA, BEN, LEASE_S, QUEUED, Clock, claim, claims, ended, opening, running, spec, submit, trail

from sparsesearch.errors import StaleAttemptError, StudyBusyError, StudyNotFoundError, StudyStateError
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.state import StopRequest, StudyCondition, StudyState
from sparsesearch.study.submission import Changes, Submission


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[SqlStore]:
    url = f"sqlite:///{tmp_path}/a.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with opening(url, clock) as again:
        yield again()


class TestStopping:
    @pytest.mark.parametrize(
        ("request_", "state"), [(StopRequest.PAUSE, StudyState.PAUSED), (StopRequest.CANCEL, StudyState.CANCELLED)]
    )
    def test_a_queued_study_is_stopped_at_once(self, store: SqlStore, request_: StopRequest, state: StudyState) -> None:
        submit(store, "digits")
        assert store.queue.request("digits", request_, by=BEN).state is state
        assert store.queue.claim() is None
        store.queue.request("digits", request_, by=BEN)
        assert trail(store) == [("ben", request_.value, "QUEUED", state.value)], "asking again is no change"

    def test_a_running_study_is_asked(self, store: SqlStore) -> None:
        writer = running(store)
        for request_ in (StopRequest.PAUSE, StopRequest.CANCEL, StopRequest.PAUSE):
            found = store.queue.request("digits", request_, by=BEN)
            assert found.state is StudyState.STOPPING
        assert writer.requested() is StopRequest.CANCEL
        assert trail(store) == [("ben", "pause", "RUNNING", "STOPPING"), ("ben", "cancel", "STOPPING", "STOPPING")]

    def test_a_paused_study_can_be_cancelled(self, store: SqlStore) -> None:
        ended(store, StudyState.PAUSED)
        assert store.queue.request("digits", StopRequest.PAUSE, by=ANA).state is StudyState.PAUSED
        assert store.queue.request("digits", StopRequest.CANCEL, by=ANA).state is StudyState.CANCELLED
        assert trail(store) == [("ana", "cancel", "PAUSED", "CANCELLED")]

    @pytest.mark.parametrize("state", [StudyState.FINISHED, StudyState.CANCELLED])
    def test_what_is_over_stays_over(self, store: SqlStore, state: StudyState) -> None:
        ended(store, state)
        for attempt in (
            lambda: store.queue.request("digits", StopRequest.PAUSE, by=ANA),
            lambda: store.queue.enqueue("digits", by=ANA),
            lambda: store.queue.change("digits", Changes(), priority=1, by=ANA),
        ):
            with pytest.raises(StudyStateError, match=f"is {state.value.lower()}, so there is nothing to "):
                attempt()
        assert store.condition("digits") == StudyCondition(state=state, reason="because")
        assert trail(store) == [], "what is refused leaves no trace"

    def test_of_no_study(self, store: SqlStore) -> None:
        for attempt in (
            lambda: store.queue.request("none", StopRequest.PAUSE, by=ANA),
            lambda: store.queue.enqueue("none", by=ANA),
            lambda: store.queue.change("none", Changes(), by=ANA),
            lambda: store.queue.delete("none", by=ANA),
            lambda: store.queue.give_back("none", "because"),
        ):
            with pytest.raises(StudyNotFoundError):
                attempt()
        assert store.queue.audit() == []


class TestResuming:
    @pytest.mark.parametrize("state", [StudyState.PAUSED, StudyState.FAILED])
    def test_what_was_stopped_is_queued_again(self, store: SqlStore, state: StudyState) -> None:
        ended(store, state)
        assert store.queue.claim() is None
        assert store.queue.enqueue("digits", by=BEN) == QUEUED
        assert store.queue.enqueue("digits", by=BEN) == QUEUED
        assert trail(store) == [("ben", "resume", state.value, "QUEUED")]
        found = store.queue.submission("digits")
        assert found is not None
        assert found.owner == "ana"
        assert claims(store) == ["digits"]

    def test_what_is_run_is_not_queued(self, store: SqlStore) -> None:
        writer = running(store)
        with pytest.raises(StudyStateError, match="'digits' is running; resume it when it has stopped"):
            store.queue.enqueue("digits", by=ANA)
        writer.renew()
        assert trail(store) == []

    def test_what_lost_its_process_is_queued_again(self, store: SqlStore, clock: Clock) -> None:
        writer = running(store)
        clock.now += LEASE_S
        assert store.queue.enqueue("digits", by=ANA) == QUEUED
        with pytest.raises(StaleAttemptError):
            writer.set_state(StudyState.FINISHED)
        assert claims(store) == ["digits"]

    def test_what_was_not_submitted_can_be_queued(self, store: SqlStore, clock: Clock) -> None:
        store.create_study(spec("paused")).close()
        store.submit_study(spec("waiting"))
        for name in ("paused", "waiting"):
            assert store.queue.enqueue(name, by=BEN) == QUEUED
            assert store.queue.submission(name) == Submission(owner="ben", submitted_at=clock.now)
            assert [entry[:2] for entry in trail(store, name)] == [("ben", "resume")]
        assert claims(store) == ["paused", "waiting"]


class TestChanging:
    def test_a_priority_is_that_of_the_next_claim(self, store: SqlStore) -> None:
        submit(store, "digits", "other")
        assert store.queue.change("other", Changes(), priority=1, by=BEN).priority == 1
        assert trail(store, "other") == [("ben", "change", "priority 0", "priority 1")]
        assert claims(store) == ["other", "digits"]

    def test_resources_are_those_of_the_next_run(self, store: SqlStore) -> None:
        submit(store, "digits")
        store.queue.change("digits", Changes(max_concurrent=8), by=ANA)
        found = store.queue.change("digits", Changes(time_budget_s=3600.5), by=BEN)
        assert found.changes == Changes(max_concurrent=8, time_budget_s=3600.5)
        assert store.queue.submission("digits") == found
        assert store.condition("digits") == QUEUED
        changed = found.changes.applied(store.spec("digits"))
        assert (changed.resources.max_concurrent, changed.time_budget_s) == (8, 3600.5)
        assert Changes().applied(changed) == changed
        assert store.spec("digits") == spec(), "its document stays"
        assert trail(store)[1] == (
            "ben",
            "change",
            "priority 0, max_concurrent 8",
            "priority 0, max_concurrent 8, time_budget_s 3600.5",
        )

    def test_a_running_study_is_asked_to_begin_again(self, store: SqlStore) -> None:
        writer = running(store)
        store.queue.change("digits", Changes(), priority=1, by=ANA)
        assert writer.requested() is None, "a priority is no reason"
        store.queue.change("digits", Changes(max_concurrent=2), by=ANA)
        assert writer.requested() is StopRequest.APPLY
        assert store.condition("digits").state is StudyState.RUNNING
        writer.set_state(StudyState.QUEUED)
        writer.close()
        assert claims(store) == ["digits"]
        assert store.condition("digits").request is None

    @pytest.mark.parametrize("request_", [StopRequest.PAUSE, StopRequest.CANCEL])
    def test_another_request_is_kept(self, store: SqlStore, request_: StopRequest) -> None:
        writer = running(store)
        store.queue.request("digits", request_, by=ANA)
        store.queue.change("digits", Changes(max_concurrent=2), by=ANA)
        assert writer.requested() is request_

    @pytest.mark.parametrize("request_", [StopRequest.PAUSE, StopRequest.CANCEL])
    def test_a_later_request_is_stronger(self, store: SqlStore, request_: StopRequest) -> None:
        writer = running(store)
        store.queue.change("digits", Changes(max_concurrent=2), by=ANA)
        store.queue.request("digits", request_, by=ANA)
        assert writer.requested() is request_

    def test_the_same_again_is_no_change(self, store: SqlStore) -> None:
        submit(store, "digits")
        store.queue.change("digits", Changes(max_concurrent=2), by=ANA)
        writer = store.open_claimed("digits", claim(store).lease)
        store.queue.change("digits", Changes(max_concurrent=2), priority=0, by=ANA)
        assert writer.requested() is None
        assert len(trail(store)) == 1

    def test_of_a_study_that_was_not_submitted(self, store: SqlStore, clock: Clock) -> None:
        store.create_study(spec()).close()
        store.queue.change("digits", Changes(max_concurrent=2), priority=4, by=BEN)
        expected = Submission(owner="ben", priority=4, submitted_at=clock.now, changes=Changes(max_concurrent=2))
        assert store.queue.submission("digits") == expected
        assert store.condition("digits").state is StudyState.PAUSED


class TestTrail:
    def test_it_says_who_did_what_and_when(self, store: SqlStore, clock: Clock) -> None:
        submit(store, "digits", priority=2)
        clock.now += 1
        store.queue.request("digits", StopRequest.PAUSE, by=BEN)
        submit(store, "other")
        newest = store.queue.audit()
        assert [(entry.number, entry.at, entry.who, entry.action, entry.what) for entry in newest] == [
            (3, clock.now, "ana", "submit", "other"),
            (2, clock.now, "ben", "pause", "digits"),
            (1, clock.now - 1, "ana", "submit", "digits"),
        ]
        assert [(entry.before, entry.after) for entry in newest[1:]] == [("QUEUED", "PAUSED"), (None, "priority 2")]
        assert store.queue.audit(what="digits") == newest[1:]
        assert store.queue.audit(limit=1) == newest[:1]
        assert store.queue.audit(before=3, limit=1) == newest[1:2]

    def test_it_outlives_the_study(self, store: SqlStore) -> None:
        writer = running(store)
        with pytest.raises(StudyBusyError):
            store.queue.delete("digits", by=BEN)
        assert trail(store) == [], "what is refused leaves no trace"
        writer.close()
        store.queue.delete("digits", by=BEN)
        assert list(store.studies()) == []
        assert store.queue.submissions(["digits"]) == {}
        assert [(entry.who, entry.action) for entry in store.queue.audit(what="digits")] == [
            ("ben", "delete"),
            ("ana", "submit"),
        ]
        submit(store, "digits")
        assert len(store.queue.audit(what="digits")) == 3

    def test_what_fails_leaves_no_trace(self, store: SqlStore) -> None:
        def fails(connection: object, study_id: int, now: float) -> None:
            ANA.note(connection, "submit", "digits", at=now)  # type: ignore[arg-type]
            raise KeyError

        with pytest.raises(KeyError):
            store.add_queued(spec(), also=fails)
        assert store.queue.audit() == []
        assert list(store.studies()) == []
