"""A store with a clock of its own, and studies in its queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sparsesearch.schedule import Schedule
from sparsesearch.store.audit import Actor
from sparsesearch.store.sql import SqlStore, open_store
from sparsesearch.study.events import Measured
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.spec import Budget, StudySpec
from sparsesearch.study.state import StudyCondition, StudyState
from sparsesearch.study.submission import Claim
from sparsesearch.study.trial import Cost, Fidelity, Measurement, NewTrial, Origin

LEASE_S = 60.0
ANA, BEN = Actor("ana"), Actor("ben")
QUEUED = StudyCondition(state=StudyState.QUEUED)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def opening(url: str, clock: Clock) -> Iterator[Callable[[], SqlStore]]:
    """What opens a database once more, as another process does; all are closed in the end."""
    opened: list[SqlStore] = []

    def again() -> SqlStore:
        opened.append(open_store(url, clock=clock, lease_s=LEASE_S))
        return opened[-1]

    yield again
    for store in opened:
        store.close()


def spec(name: str = "digits") -> StudySpec:
    return StudySpec(name=name, backbone="deit_pico", budget=Budget(low=0.1 + 0.2, high=0.65))


def submit(store: SqlStore, *names: str, by: Actor = ANA, priority: int = 0) -> None:
    for name in names:
        store.queue.submit(spec(name), by=by, priority=priority)


def claim(store: SqlStore) -> Claim:
    found = store.queue.claim()
    assert found is not None
    return found


def claims(store: SqlStore) -> list[str]:
    """The names of all studies in the order in which they are taken."""
    return [found.study for found in iter(store.queue.claim, None)]


def running(store: SqlStore, name: str = "digits") -> StudyWriter:
    """A study that was submitted, taken and begun."""
    submit(store, name)
    writer = store.open_claimed(name, claim(store).lease)
    writer.set_state(StudyState.RUNNING)
    return writer


def ended(store: SqlStore, state: StudyState, name: str = "digits") -> None:
    writer = running(store, name)
    writer.set_state(state, reason="because")
    writer.close()


def trail(store: SqlStore, what: str = "digits") -> list[tuple[str, str, str | None, str | None]]:
    """Who did what, oldest first, except for the submission."""
    entries = [entry for entry in store.queue.audit(what=what)[::-1] if entry.action != "submit"]
    return [(entry.who, entry.action, entry.before, entry.after) for entry in entries]


def new(number: int, *, seed: int | None = None) -> NewTrial:
    """A trial of a study."""
    return NewTrial(
        number=number,
        fidelity=Fidelity.FINETUNE,
        origin=Origin.SEARCH,
        label="search",
        schedule=Schedule.at([1], [0.5]),
        key="a",
        cost=Cost(macs=10, params=5),
        seed=number if seed is None else seed,
    )


def measured(trial: int, step: int = 1, *, attempt: int = 1) -> Measured:
    """The news that a trial was measured."""
    measurement = Measurement(
        step=step, attempt=attempt, fidelity=Fidelity.FINETUNE, metrics={"val_top1": 0.5}, seconds=0.1, seed=1
    )
    return Measured(trial=trial, attempt=attempt, measurement=measurement)


def measure(writer: StudyWriter) -> None:
    """Let a study go on by a step."""
    number = len(writer.trials())
    writer.add_trial(new(number))
    writer.claim(number)
    writer.record(measured(number))
