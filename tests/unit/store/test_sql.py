from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from sparsesearch.errors import StoreVersionError
from sparsesearch.schedule import Schedule
from sparsesearch.store.sql import SqlStore, open_store
from sparsesearch.study.events import Ended, Measured
from sparsesearch.study.spec import Budget, StudySpec
from sparsesearch.study.trial import Cost, Fidelity, Measurement, NewTrial, Origin, TrialState

SPEC = StudySpec(name="digits", backbone="deit_pico", budget=Budget(high=0.65))


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """Every statement that SQLite executes while a test runs, settings aside."""
    sent: list[str] = []

    def note(statement: str) -> None:
        if not statement.startswith("PRAGMA"):
            sent.append(statement)

    def trace(connection: sqlite3.Connection, entry: object) -> None:
        connection.set_trace_callback(note)

    event.listen(Engine, "connect", trace)
    yield sent
    event.remove(Engine, "connect", trace)


def new(number: int) -> NewTrial:
    return NewTrial(
        number=number,
        fidelity=Fidelity.SUPERNET,
        origin=Origin.SEARCH,
        label="search",
        schedule=Schedule.at([1], [0.5]),
        key=f"{number:032x}",
        cost=Cost(macs=10, params=5),
        seed=0,
    )


def measured(number: int, *, step: int = 1) -> Measured:
    measurement = Measurement(
        step=step, attempt=1, fidelity=Fidelity.SUPERNET, metrics={"val_top1": 0.5}, seconds=0.1, seed=0
    )
    return Measured(trial=number, attempt=1, measurement=measurement)


def ended(number: int) -> Ended:
    return Ended(trial=number, attempt=1, state=TrialState.COMPLETE)


def filled(path: Path, *, num_trials: int) -> SqlStore:
    store = open_store(f"sqlite:///{path}")
    writer = store.create_study(SPEC)
    for number in range(num_trials):
        writer.add_trial(new(number))
        writer.claim(number)
        for step in (1, 2):
            writer.record(measured(number, step=step))
        writer.record(ended(number))
    writer.close()
    return store


@pytest.mark.parametrize("num_trials", [1, 20])
def test_reading_trials_takes_as_many_queries_for_many_as_for_one(
    tmp_path: Path, statements: list[str], num_trials: int
) -> None:
    store = filled(tmp_path / "a.db", num_trials=num_trials)
    writer = store.open_study("digits")
    statements.clear()
    assert len(writer.trials()) == num_trials
    assert len(writer.trials([TrialState.COMPLETE])) == num_trials
    assert [statement.split()[0] for statement in statements] == ["BEGIN", "SELECT", "SELECT", "COMMIT"] * 2


def test_a_write_is_one_transaction_of_few_statements(tmp_path: Path, statements: list[str]) -> None:
    store = filled(tmp_path / "a.db", num_trials=1)
    writer = store.open_study("digits")
    statements.clear()
    writer.record(Ended(trial=0, attempt=1, state=TrialState.COMPLETE))
    words = [statement.split()[0] for statement in statements]
    assert words == ["BEGIN", "UPDATE", "SELECT", "SELECT", "COMMIT"]
    assert statements[0] == "BEGIN IMMEDIATE"


def test_a_write_to_an_unfinished_trial_reads_nothing(tmp_path: Path, statements: list[str]) -> None:
    store = filled(tmp_path / "a.db", num_trials=1)
    writer = store.open_study("digits")
    writer.add_trial(new(33))  # the first write asks for the number of the last change
    numbers = range(1, 33)
    for several in ([1], list(numbers[1:])):
        statements.clear()
        writer.add_trials([new(number) for number in several])
        words = [statement.split()[0] for statement in statements]
        assert words == ["BEGIN", "UPDATE", *["INSERT"] * len(several), "COMMIT"]
    statements.clear()
    writer.claim_all(numbers)
    assert [statement.split()[0] for statement in statements] == ["BEGIN", *["UPDATE"] * 33, "COMMIT"]
    statements.clear()
    writer.record_all([event for number in numbers for event in (measured(number), ended(number))])
    words = [statement.split()[0] for statement in statements]
    assert words == ["BEGIN", *["UPDATE"] * 33, *["INSERT"] * 32, "COMMIT"]


def test_a_study_that_cannot_be_read_can_be_listed_and_deleted(tmp_path: Path) -> None:
    store = filled(tmp_path / "a.db", num_trials=1)
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE studies SET spec = '{}'")
    with pytest.raises(StoreVersionError, match="'digits' cannot be read by this version"):
        store.open_study("digits")
    assert list(store.studies()) == ["digits"]
    assert len(store.trials("digits")) == 1
    store.delete_study("digits")
    assert list(store.studies()) == []


def test_a_store_can_be_used_after_it_was_closed(tmp_path: Path) -> None:
    store = filled(tmp_path / "a.db", num_trials=1)
    store.close()
    assert list(store.studies()) == ["digits"]
    store.close()
