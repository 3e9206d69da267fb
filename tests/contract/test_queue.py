"""The queue of submitted studies, on SQLite and on PostgreSQL: who takes which one."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from queued import ANA, BEN, LEASE_S, QUEUED, Clock, claim, claims, ended, opening, running, spec, submit
from sample_study import sample_spec
from sqlalchemy import create_engine, text

from sparsesearch.errors import StaleAttemptError, StudyBusyError, StudyExistsError, StudyNotFoundError
from sparsesearch.store import queue_statements, study_transitions
from sparsesearch.store.outbox import write_condition
from sparsesearch.store.sql import SqlStore, open_store
from sparsesearch.study.state import StopRequest, StudyCondition, StudyState
from sparsesearch.study.submission import Claim, Submission


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/a.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def open_again(url: str, clock: Clock) -> Iterator[Callable[[], SqlStore]]:
    with opening(url, clock) as again:
        yield again


@pytest.fixture
def store(open_again: Callable[[], SqlStore]) -> SqlStore:
    return open_again()


class TestSubmitting:
    def test_it_waits_with_what_is_known_of_it(self, store: SqlStore, clock: Clock) -> None:
        submit(store, "digits", priority=3)
        assert store.condition("digits") == QUEUED
        found = Submission(owner="ana", priority=3, submitted_at=clock.now)
        assert store.queue.submission("digits") == found
        assert store.queue.submissions(["digits", "other"]) == {"digits": found}

    def test_a_name_is_taken_once(self, store: SqlStore) -> None:
        submit(store, "digits")
        with pytest.raises(StudyExistsError):
            submit(store, "digits", by=BEN)
        assert [entry.who for entry in store.queue.audit()] == ["ana"], "what is refused leaves no trace"

    def test_of_studies_that_were_not_submitted(self, store: SqlStore) -> None:
        store.submit_study(spec())
        assert store.queue.submission("digits") is None
        assert store.queue.submissions(["digits"]) == {}
        with pytest.raises(StudyNotFoundError):
            store.queue.submission("other")


class TestClaiming:
    def test_of_an_empty_queue(self, store: SqlStore) -> None:
        assert store.queue.claim() is None
        store.submit_study(spec())
        assert store.queue.claim() is None, "it was not submitted to the queue"

    def test_the_oldest_is_first(self, store: SqlStore, clock: Clock) -> None:
        for name in "bca":
            submit(store, name)
            clock.now += 1
        assert claims(store) == ["b", "c", "a"]
        assert claims(store) == []

    def test_the_highest_priority_is_first(self, store: SqlStore) -> None:
        for name, priority in (("low", -1), ("a", 0), ("high", 2), ("b", 0)):
            submit(store, name, priority=priority)
        assert claims(store) == ["high", "a", "b", "low"]

    def test_owners_take_turns(self, store: SqlStore) -> None:
        submit(store, "a1", "a2", "a3")
        submit(store, "b1", "b2", by=BEN)
        assert claims(store) == ["a1", "b1", "a2", "b2", "a3"]

    def test_an_owner_whose_studies_ended_is_first_again(self, store: SqlStore) -> None:
        ended(store, StudyState.FINISHED, "a1")
        submit(store, "b1", by=BEN)
        claim(store)
        submit(store, "b2", by=BEN)
        submit(store, "a2")
        submit(store, "b3", by=BEN, priority=1)
        assert claims(store) == ["b3", "a2", "b2"], "a priority comes before turns"

    def test_a_study_is_taken_with_its_lease(self, store: SqlStore, open_again: Callable[[], SqlStore]) -> None:
        submit(store, "digits")
        assert claim(store).study == "digits"
        assert store.condition("digits") == StudyCondition(state=StudyState.RESOLVING, is_leased=True)
        for attempt in (open_again().open_study, open_again().delete_study):
            with pytest.raises(StudyBusyError):
                attempt("digits")

    def test_several_take_different_ones(self, store: SqlStore, open_again: Callable[[], SqlStore]) -> None:
        names = [f"s{number:02}" for number in range(24)]
        submit(store, *names)
        stores = [store, store, open_again(), open_again()]
        start = threading.Barrier(len(stores))
        taken: list[str] = []

        def take(store: SqlStore) -> None:
            start.wait()
            taken.extend(claims(store))

        threads = [threading.Thread(target=take, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(taken) == names

    def test_what_is_being_changed_is_not_waited_for(self, store: SqlStore, open_again: Callable[[], SqlStore]) -> None:
        submit(store, "digits")
        found: list[Claim | None] = []
        queue = open_again().queue
        thread = threading.Thread(target=lambda: found.append(queue.claim()))
        with store._database.writing() as connection:
            row, condition, now = store.found(connection, "digits")
            thread.start()
            thread.join(timeout=0.2 if store._database.is_sqlite else 10.0)
            assert found == ([] if store._database.is_sqlite else [None]), "a transaction of SQLite excludes others"
            paused = study_transitions.requested(condition, StopRequest.PAUSE, study="digits")
            write_condition(connection, row["id"], paused, at=now.time)
        thread.join()
        assert found == [None]
        assert store.condition("digits").state is StudyState.PAUSED

    def test_a_process_that_has_given_it_back_ends_first(self, store: SqlStore, clock: Clock) -> None:
        writer = running(store)
        writer.set_state(StudyState.QUEUED)
        assert store.queue.claim() is None
        writer.close()
        assert claims(store) == ["digits"]
        store.open_claimed("digits", _owner(store)).set_state(StudyState.QUEUED)
        clock.now += LEASE_S
        assert claims(store) == ["digits"], "or its lease"


def _owner(store: SqlStore) -> str:
    with store._database.reading() as connection:
        return str(connection.exec_driver_sql("SELECT owner FROM leases").scalar_one())


class TestTakingOver:
    def test_a_process_opens_what_was_claimed_for_it(self, store: SqlStore, open_again: Callable[[], SqlStore]) -> None:
        submit(store, "new")
        writer = open_again().open_claimed("new", claim(store).lease)
        assert (writer.spec, writer.uid) == (spec("new"), store.uid("new"))
        assert store.condition("new") == StudyCondition(state=StudyState.RESOLVING, is_leased=True)
        store.queue.submit(sample_spec("resolved"), by=ANA)
        open_again().open_claimed("resolved", claim(store).lease).renew()
        assert store.condition("resolved") == StudyCondition(state=StudyState.RUNNING, is_leased=True)

    def test_the_lease_begins_anew(self, store: SqlStore, clock: Clock) -> None:
        submit(store, "digits")
        lease = claim(store).lease
        clock.now += LEASE_S - 1
        store.open_claimed("digits", lease)
        clock.now += LEASE_S - 1
        assert store.condition("digits").is_leased

    @pytest.mark.parametrize("request_", [StopRequest.PAUSE, StopRequest.CANCEL])
    def test_a_request_in_between_is_kept(
        self, store: SqlStore, open_again: Callable[[], SqlStore], request_: StopRequest
    ) -> None:
        submit(store, "digits")
        lease = claim(store).lease
        store.queue.request("digits", request_, by=ANA)
        assert open_again().open_claimed("digits", lease).requested() is request_
        assert store.condition("digits").state is StudyState.STOPPING

    def test_only_with_the_lease(self, store: SqlStore, clock: Clock) -> None:
        submit(store, "digits", "other")
        old, other = claim(store).lease, claim(store).lease
        for wrong in ("", "other", other):
            with pytest.raises(StaleAttemptError, match="'digits' is no longer leased"):
                store.open_claimed("digits", wrong)
        clock.now += LEASE_S
        assert store.queue.requeue_lost() == ["digits", "other"]
        for _ in range(2):
            with pytest.raises(StaleAttemptError):
                store.open_claimed("digits", old)
            store.queue.claim()

    def test_a_late_one_does_not_undo_a_cancellation(self, store: SqlStore, clock: Clock) -> None:
        submit(store, "digits")
        lease = claim(store).lease
        clock.now += LEASE_S
        store.queue.request("digits", StopRequest.CANCEL, by=ANA)
        with pytest.raises(StaleAttemptError):
            store.open_claimed("digits", lease)
        assert store.condition("digits").state is StudyState.CANCELLED


class TestProcesses:
    CLAIMING = (
        "import sys; from sparsesearch.store.sql import open_store; queue = open_store(sys.argv[1]).queue; "
        "sys.stdin.readline(); print(*[found.study for found in iter(queue.claim, None)], flush=True); "
        "sys.stdin.readline()"
    )

    def test_several_take_different_ones_and_lose_them_when_they_end(self, url: str) -> None:
        store = open_store(url)
        names = [f"s{number:02}" for number in range(16)]
        submit(store, *names)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        pair = [subprocess.Popen([sys.executable, "-c", self.CLAIMING, url], **pipes) for _ in range(2)]
        for process in pair:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        taken = [process.stdout.readline().split() for process in pair if process.stdout is not None]
        assert sorted(taken[0] + taken[1]) == names
        assert store.queue.requeue_lost() == [], "they live"
        pair[0].kill()
        pair[0].communicate()
        assert store.queue.requeue_lost() == sorted(taken[0])
        assert sorted(claims(store)) == sorted(taken[0])
        pair[1].communicate()
        store.close()


MANY = 2000


def fill_many(store: SqlStore) -> None:
    """Studies that were submitted and are finished, so that looking through all of them would not pay."""
    submit(store, "last", "other")
    numbers = f"WITH RECURSIVE s(n) AS (SELECT 10 UNION ALL SELECT n + 1 FROM s WHERE n < {MANY + 9}) "
    statements = [
        "INSERT INTO studies (id, name, spec, created_at, state) "
        f"{numbers} SELECT s.n, 's' || s.n, studies.spec, studies.created_at, 'FINISHED' FROM s, studies "
        "WHERE studies.name = 'last'",
        "INSERT INTO leases (study_id, generation, expires_at, host, machine, pid) "
        f"{numbers} SELECT s.n, 1, 0, 'a', 'a', 1 FROM s",
        "INSERT INTO submissions (study_id, owner, priority, submitted_at, not_before, num_faults) "
        f"{numbers} SELECT s.n, 'ana', 0, s.n, 0, 0 FROM s",
    ]
    with store._database.writing() as connection:
        for statement in statements:
            connection.execute(text(statement))
    url = store._database._reads.url
    engine = create_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE" if url.drivername.startswith("postgresql") else "ANALYZE"))
    engine.dispose()


def test_finished_studies_are_not_looked_at(store: SqlStore, clock: Clock) -> None:
    fill_many(store)
    is_sqlite, dialect = store._database.is_sqlite, store._database._reads.dialect
    bound = queue_statements.next_study().params(now=clock.now)
    literal = str(bound.compile(dialect=dialect, compile_kwargs={"literal_binds": True})).replace("%%", "%")
    explain = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"
    with store._database.reading() as connection:
        plan = "\n".join(str(tuple(row)) for row in connection.exec_driver_sql(f"{explain} {literal}"))
    assert len(re.findall("ix_studies_state", plan)) >= 2, plan
    assert not re.search("Seq Scan|SCAN", plan), plan
    assert claims(store) == ["last", "other"]
