"""The numbers of the changes of trials, on SQLite and on PostgreSQL: who asks for later ones misses nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from queued import LEASE_S, Clock, measured, new, opening, spec
from sqlalchemy import select

from sparsesearch.errors import DuplicateTrialError, StaleAttemptError
from sparsesearch.store.sql import SqlStore
from sparsesearch.store.tables import trials
from sparsesearch.study.events import Ended
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.trial import TrialState


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
    return open_again()


@pytest.fixture
def writer(store: SqlStore) -> StudyWriter:
    store.create_study(spec("other")).add_trials([new(number) for number in range(50)])
    return store.create_study(spec())


def ended(trial: int) -> Ended:
    return Ended(trial=trial, attempt=1, state=TrialState.COMPLETE)


def changed(store: SqlStore, *, after: int = 0) -> dict[int, int]:
    """Trials that changed after a change, in order, with the numbers of their last changes."""
    query = select(trials.c.number, trials.c.change).where(trials.c.study_id == 2, trials.c.change > after)
    with store._database.reading() as connection:
        return {row.number: row.change for row in connection.execute(query.order_by(trials.c.change))}


def test_each_change_is_the_last_one(store: SqlStore, writer: StudyWriter) -> None:
    writer.add_trials([new(0), new(1), new(2)])
    assert changed(store) == {0: 1, 1: 2, 2: 3}, "each study has its own numbers"
    seen = 3
    for write, numbers in (
        (lambda: writer.claim(0), [0]),
        (lambda: writer.claim_all([1, 2]), [1, 2]),
        (lambda: writer.record(measured(1)), [1]),
        (lambda: writer.add_trial(new(3)), [3]),
        (lambda: writer.record_all([measured(2), measured(0), ended(0)]), [0, 2]),
        (lambda: writer.claim(1, retry=True), [1]),
    ):
        write()
        found = changed(store, after=seen)
        assert sorted(found) == numbers
        assert len(set(found.values())) == len(numbers)
        seen = max(found.values())
    assert len(set(changed(store).values())) == 4


def test_what_changes_nothing_is_no_change(store: SqlStore, writer: StudyWriter) -> None:
    writer.add_trials([new(0), new(1)])
    for write in (lambda: writer.claim(0), lambda: writer.record(measured(0))):
        write()
        before = changed(store)
        write()
        assert changed(store) == before
    writer.add_trials([new(0), new(1)])
    writer.renew()
    writer.close()
    assert changed(store) == before


def test_after_a_refused_write_they_go_on(store: SqlStore, writer: StudyWriter) -> None:
    writer.add_trials([new(0), new(1)])
    before = changed(store)
    with pytest.raises(DuplicateTrialError):
        writer.add_trials([new(2), new(3, seed=0)])
    with pytest.raises(StaleAttemptError):
        writer.record_all([measured(0, attempt=2)])
    with pytest.raises(LookupError):
        writer.claim_all([0, 7])
    assert changed(store) == before
    writer.claim(1)
    assert list(changed(store, after=2)) == [1]


@pytest.mark.parametrize("how", ["closed", "lost"])
def test_the_next_writer_goes_on_with_them(
    store: SqlStore, writer: StudyWriter, open_again: Callable[[], SqlStore], clock: Clock, how: str
) -> None:
    writer.add_trials([new(0), new(1)])
    writer.claim_all([0, 1])
    seen = max(changed(store).values())
    if how == "closed":
        writer.close()
    clock.now += LEASE_S
    second = open_again().open_study("digits")
    with pytest.raises(StaleAttemptError):
        writer.record(measured(1))
    second.record(measured(0))
    found = changed(store, after=seen)
    assert list(found) == [0]
    second.close()
    open_again().open_study("digits").add_trial(new(2))
    assert list(changed(store, after=found[0])) == [2]


def test_a_reader_misses_nothing(store: SqlStore, writer: StudyWriter, open_again: Callable[[], SqlStore]) -> None:
    """Two writers in turn, of which each writes from two threads; the reader asks for what is new all the time."""
    reader, is_over = open_again(), threading.Event()
    first = writer
    seen: dict[int, int] = {}
    reads: list[dict[int, int]] = []

    def read() -> None:
        while True:
            last_time = is_over.is_set()
            found = changed(reader, after=max(seen.values(), default=0))
            seen.update(found)
            reads.append(found)
            if last_time:
                return

    def write(writer: StudyWriter, start: int) -> None:
        for number in range(start, start + 20):
            writer.add_trial(new(number))
            writer.claim(number)
            writer.record_all([measured(number), ended(number)])

    reading = threading.Thread(target=read)
    reading.start()
    second = None
    for start in (0, 40):
        if start:
            first.close()
            second = open_again().open_study("digits")
        threads = [threading.Thread(target=write, args=(second or first, start + 20 * index)) for index in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    is_over.set()
    reading.join()
    assert seen == changed(store)
    assert sorted(seen) == list(range(80))
    numbers = [change for found in reads for change in found.values()]
    assert numbers == sorted(set(numbers))
    assert sum(map(bool, reads)) > 10, "it read while others wrote"
