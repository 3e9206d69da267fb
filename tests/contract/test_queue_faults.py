"""Submitted studies whose process was lost or met a fault, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from queued import ANA, BEN, LEASE_S, Clock, claim, claims, ended, measure, opening, running, spec, submit, trail

from sparsesearch.errors import StaleAttemptError
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.state import StopRequest, StudyCondition, StudyState
from sparsesearch.study.submission import Changes


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[SqlStore]:
    url = f"sqlite:///{tmp_path}/a.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with opening(url, clock) as again:
        yield again()


class TestLostProcesses:
    def test_they_give_their_studies_back_once(self, store: SqlStore, clock: Clock) -> None:
        writer = running(store)
        clock.now += LEASE_S - 1
        assert store.queue.requeue_lost() == []
        clock.now += 1
        assert store.queue.requeue_lost() == ["digits"]
        assert store.queue.requeue_lost() == []
        assert store.condition("digits") == StudyCondition(state=StudyState.QUEUED, reason="its process was lost")
        late(store, writer)
        assert claims(store) == ["digits"]
        late(store, writer)

    def test_those_that_are_lost_again_and_again_are_paused(self, store: SqlStore, clock: Clock) -> None:
        submit(store, "digits")
        pauses = []
        for _ in range(6):
            store.open_claimed("digits", claim(store).lease)
            clock.now += LEASE_S
            assert store.queue.requeue_lost() == ["digits"]
            not_before = store.queue.submissions(["digits"])["digits"].not_before
            pauses.append(not_before - clock.now)
            clock.now = not_before
        assert pauses[:5] == [0, 60, 120, 240, 480]
        reason = "its process was lost again and again; see its log"
        assert store.condition("digits") == StudyCondition(state=StudyState.PAUSED, reason=reason)
        assert claims(store) == []
        store.queue.enqueue("digits", by=BEN)
        store.open_claimed("digits", claim(store).lease)
        clock.now += LEASE_S
        store.queue.requeue_lost()
        assert claims(store) == ["digits"], "counted anew"

    def test_those_that_go_on_in_between_are_not(self, store: SqlStore, clock: Clock) -> None:
        submit(store, "digits")
        for _ in range(12):
            writer = store.open_claimed("digits", claim(store).lease)
            clock.now += 1
            measure(writer)
            clock.now += LEASE_S
            assert store.queue.requeue_lost() == ["digits"]

    @pytest.mark.parametrize(
        ("request_", "state"),
        [
            (StopRequest.CANCEL, StudyState.CANCELLED),
            (StopRequest.PAUSE, StudyState.PAUSED),
            (StopRequest.STOP, StudyState.PAUSED),
        ],
    )
    def test_a_request_is_fulfilled(
        self, store: SqlStore, clock: Clock, request_: StopRequest, state: StudyState
    ) -> None:
        for name in ("lost", "faulty", "ending"):
            writer = running(store, name)
            store.queue.request(name, request_, by=ANA)
        writer.set_state(StudyState.QUEUED)
        assert store.condition("ending") == StudyCondition(state=state, is_leased=True)
        clock.now += LEASE_S
        store.queue.give_back("faulty", "no network")
        assert store.condition("faulty") == StudyCondition(state=state, reason="no network")
        assert store.queue.requeue_lost() == ["lost"]
        assert store.condition("lost") == StudyCondition(state=state, reason="its process was lost")
        assert store.queue.claim() is None

    def test_a_change_of_resources_is_applied(self, store: SqlStore, clock: Clock) -> None:
        running(store)
        store.queue.change("digits", Changes(max_concurrent=2), by=ANA)
        clock.now += LEASE_S
        store.queue.requeue_lost()
        assert claims(store) == ["digits"]

    def test_those_of_other_studies_are_left_alone(self, store: SqlStore, clock: Clock) -> None:
        store.create_study(spec("by-hand"))
        ended(store, StudyState.PAUSED, "paused")
        clock.now += LEASE_S
        assert store.queue.requeue_lost() == []
        assert store.condition("by-hand").is_interrupted


def late(store: SqlStore, writer: StudyWriter) -> None:
    """A process that wakes up too late changes nothing."""
    before = store.condition("digits")
    for write in (writer.renew, writer.requested, lambda: writer.set_state(StudyState.FINISHED)):
        with pytest.raises(StaleAttemptError):
            write()
    writer.close()
    assert store.condition("digits") == before


class TestFaults:
    def test_the_next_attempt_is_later_and_later(self, store: SqlStore, clock: Clock) -> None:
        submit(store, "digits", "other")
        for pause in (30, 60, 120, 240, 480, 960, 1800, 1800):
            writer = store.open_claimed("digits", claim(store).lease)
            writer.set_state(StudyState.QUEUED)
            writer.close()
            store.queue.give_back("digits", "no network")
            assert store.condition("digits") == StudyCondition(state=StudyState.QUEUED, reason="no network")
            submission = store.queue.submission("digits")
            assert submission is not None
            assert submission.not_before == clock.now + pause
            clock.now += pause - 1
            assert claims(store) in (["other"], []), "others do not wait"
            clock.now += 1
        assert store.queue.audit(what="digits")[0].action == "submit", "nobody did it"

    def test_after_weeks_of_faults(self, store: SqlStore, clock: Clock) -> None:
        submit(store, "digits")
        with store._database.writing() as connection:
            connection.exec_driver_sql(f"UPDATE submissions SET num_faults = 5000, not_before = {clock.now}")
        store.queue.give_back("digits", "no network")
        assert store.queue.submissions(["digits"])["digits"].not_before == clock.now + 1800

    def test_after_a_measurement_they_are_counted_anew(self, store: SqlStore, clock: Clock) -> None:
        submit(store, "digits")
        pauses = []
        for measures in (False, False, True, False):
            writer = store.open_claimed("digits", claim(store).lease)
            clock.now += 7200
            if measures:
                measure(writer)
            writer.set_state(StudyState.QUEUED)
            writer.close()
            store.queue.give_back("digits", "no network")
            not_before = store.queue.submissions(["digits"])["digits"].not_before
            pauses.append(not_before - clock.now)
            clock.now = not_before
        assert pauses == [30, 60, 30, 60]

    def test_resuming_does_not_wait(self, store: SqlStore) -> None:
        submit(store, "digits")
        for _ in range(3):
            store.queue.give_back("digits", "no network")
        store.queue.enqueue("digits", by=BEN)
        assert trail(store) == [("ben", "resume", "QUEUED", "QUEUED")]
        assert claims(store) == ["digits"]
        assert store.queue.submissions(["digits"])["digits"].num_faults == 0

    @pytest.mark.parametrize("state", [StudyState.FINISHED, StudyState.CANCELLED, StudyState.FAILED])
    def test_what_has_ended_stays_so(self, store: SqlStore, state: StudyState) -> None:
        ended(store, state)
        store.queue.give_back("digits", "no network")
        assert store.condition("digits") == StudyCondition(state=state, reason="because")

    def test_what_runs_is_left_alone(self, store: SqlStore) -> None:
        writer = running(store)
        store.queue.give_back("digits", "no network")
        writer.renew()
        assert store.condition("digits").state is StudyState.RUNNING
        store.create_study(spec("by-hand")).close()
        store.queue.give_back("by-hand", "no network")
        assert store.condition("by-hand").state is StudyState.PAUSED
