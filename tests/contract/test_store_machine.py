"""Any sequence of calls leaves in a database what it leaves in memory, and raises the same errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from latency_samples import made_up_confirmation
from sample_study import sample_spec

from sparsesearch.schedule import Schedule
from sparsesearch.store.memory import MemoryStore
from sparsesearch.store.sql import SqlStore, open_store
from sparsesearch.store.tables import metadata
from sparsesearch.study.events import Checkpointed, Confirmed, Ended, Event, Measured
from sparsesearch.study.progress import WorkProgress
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.state import StopRequest, StudyState
from sparsesearch.study.trial import CheckpointRef, Cost, Fidelity, Measurement, NewTrial, Origin, TrialState

LEASE_S = 60.0
NAMES = st.sampled_from(["one", "two"])
NUMBERS = st.integers(0, 4)
ATTEMPTS = st.integers(1, 3)
STATES = st.sampled_from([TrialState.COMPLETE, TrialState.STOPPED, TrialState.FAILED, TrialState.REFERENCE])
REASONS = st.sampled_from([None, "killed", "a\x00b"])

_T = TypeVar("_T")


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@st.composite
def new_trials(draw: st.DrawFn) -> NewTrial:
    # Few keys and seeds, so that different numbers are often the same work.
    number = draw(NUMBERS)
    return NewTrial(
        number=number,
        fidelity=draw(st.sampled_from([Fidelity.SUPERNET, Fidelity.FINETUNE, Fidelity.DENSE])),
        origin=draw(st.sampled_from([Origin.SEARCH, Origin.BASELINE])),
        label="search",
        schedule=Schedule.at([3], [0.5]),
        key=f"{draw(st.integers(0, 5)):032x}",
        cost=Cost(macs=draw(st.integers(1, 3)), params=1, predicted_ms=draw(st.sampled_from([None, 1.5, 2.5]))),
        seed=draw(st.integers(0, 1)),
    )


@st.composite
def events(draw: st.DrawFn) -> Event:
    trial, attempt, step = draw(NUMBERS), draw(ATTEMPTS), draw(st.integers(0, 3))
    kind = draw(st.sampled_from(["measured", "measured", "checkpointed", "ended", "ended", "confirmed"]))
    if kind == "measured":
        measurement = Measurement(
            step=step,
            attempt=draw(st.sampled_from([attempt, attempt, attempt, 1])),
            fidelity=Fidelity.SUPERNET,
            metrics={"val_top1": draw(st.sampled_from([0.25, 0.5, float("nan"), float("inf")]))},
            seconds=0.5,
            seed=1,
        )
        return Measured(trial=trial, attempt=attempt, measurement=measurement)
    if kind == "checkpointed":
        checkpoint = CheckpointRef(uri=f"file:///{step}", sha256=f"{step:064x}", step=step)
        return Checkpointed(trial=trial, attempt=attempt, checkpoint=checkpoint)
    if kind == "ended":
        return Ended(trial=trial, attempt=attempt, state=draw(STATES), reason=draw(REASONS))
    return Confirmed(trial=trial, attempt=attempt, latency=made_up_confirmation(1.5, reference_ms=float(1 + step)))


class Stores(RuleBasedStateMachine):
    """The same calls on both stores, by the current writers and by those that have lost their lease."""

    def __init__(self, database: SqlStore, clock: Clock) -> None:
        super().__init__()
        clock.now = 1_700_000_000.0
        with database._database.writing() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
        self.clock = clock
        self.memory = MemoryStore(clock=clock, lease_s=LEASE_S)
        self.database = database
        self.writers: list[tuple[StudyWriter, StudyWriter]] = []

    def both(self, call: Callable[[MemoryStore | SqlStore], _T]) -> tuple[_T, _T] | None:
        return same(lambda: call(self.memory), lambda: call(self.database))

    def write(self, which: int, call: Callable[[StudyWriter], object]) -> None:
        pair = self.writers[which % len(self.writers)]
        results = same(lambda: call(pair[0]), lambda: call(pair[1]))
        assert results is None or repr(results[0]) == repr(results[1])

    def opened(self, pair: tuple[StudyWriter, StudyWriter] | None) -> None:
        if pair is not None:
            self.writers.append(pair)

    @rule(name=NAMES, is_resolved=st.booleans())
    def create(self, name: str, is_resolved: bool) -> None:
        spec = sample_spec(name)
        spec = spec if is_resolved else spec.model_copy(update={"resolved": None})
        self.opened(self.both(lambda store: store.create_study(spec)))

    @rule(name=NAMES)
    def submit(self, name: str) -> None:
        self.both(lambda store: store.submit_study(sample_spec(name)))

    @rule(name=NAMES, resume=st.booleans())
    def open(self, name: str, resume: bool) -> None:
        self.opened(self.both(lambda store: store.open_study(name, resume=resume)))

    @rule(name=NAMES, request=st.sampled_from(StopRequest))
    def request(self, name: str, request: StopRequest) -> None:
        self.both(lambda store: store.request(name, request))

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        self.both(lambda store: store.delete_study(name))

    @rule(seconds=st.sampled_from([1.0, LEASE_S / 2, LEASE_S + 1]))
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 9), trials=st.lists(new_trials(), min_size=1, max_size=3))
    def add(self, which: int, trials: list[NewTrial]) -> None:
        self.write(which, lambda writer: writer.add_trials(trials))

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 9), number=NUMBERS, retry=st.booleans(), reason=REASONS)
    def claim(self, which: int, number: int, retry: bool, reason: str | None) -> None:
        self.write(which, lambda writer: writer.claim(number, retry=retry, reason=reason))

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 9), numbers=st.lists(NUMBERS, max_size=3))
    def claim_all(self, which: int, numbers: list[int]) -> None:
        self.write(which, lambda writer: writer.claim_all(numbers))

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 9), several=st.lists(events(), min_size=1, max_size=4))
    def record(self, which: int, several: list[Event]) -> None:
        self.write(which, lambda writer: writer.record_all(several))

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 9), number=NUMBERS)
    def reopen(self, which: int, number: int) -> None:
        self.write(which, lambda writer: writer.reopen(number, reason="its weights are lost"))

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 9), state=st.sampled_from(StudyState), reason=REASONS)
    def set_state(self, which: int, state: StudyState, reason: str | None) -> None:
        self.write(which, lambda writer: writer.set_state(state, reason=None if reason is None else "why"))

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 9))
    def resolve(self, which: int) -> None:
        self.write(which, lambda writer: writer.resolve(sample_spec(writer.spec.name, seed=7)))

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 9))
    def show_work(self, which: int) -> None:
        work = [WorkProgress(label="training", done=1, total=3)]
        self.write(which, lambda writer: writer.show_work(work))

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 9))
    def look(self, which: int) -> None:
        self.write(which, lambda writer: (writer.requested(), list(writer.trials()), writer.spec, writer.active_s))

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 9))
    def renew(self, which: int) -> None:
        self.write(which, lambda writer: writer.renew())

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 9))
    def close(self, which: int) -> None:
        self.write(which, lambda writer: writer.close())

    @invariant()
    def stores_are_equal(self) -> None:
        names = self.memory.studies()
        assert list(self.database.studies()) == list(names)
        for read in (self.seen, self.derived):
            assert repr([read(self.database, name) for name in names]) == repr(
                [read(self.memory, name) for name in names]
            )
        assert repr(list(self.database.summaries())) == repr(list(self.memory.summaries()))

    @staticmethod
    def seen(store: MemoryStore | SqlStore, name: str) -> list[object]:
        times = store.times(name)
        ordered = sorted(times.trials.items())
        measured = [sorted(one.measured_at.items()) for _, one in ordered]
        starts = [(number, one.started_at, one.ended_at) for number, one in ordered]
        return [store.spec(name), store.condition(name), list(store.trials(name)), times.created_at, starts, measured]

    @staticmethod
    def derived(store: MemoryStore | SqlStore, name: str) -> list[object]:
        fronts = [store.front(name, fidelity, axis) for fidelity in Fidelity for axis in ("macs", "ms")]
        page = store.trials(name, states=[TrialState.RUNNING, TrialState.FAILED], offset=1, limit=2)
        return [store.digest(name), fronts, list(store.spans(name, Fidelity.SUPERNET)), list(page)]


def same(one: Callable[[], _T], two: Callable[[], _T]) -> tuple[_T, _T] | None:
    """The results of two calls; None if they raise the same."""
    results, errors = [], []
    for call in (one, two):
        try:
            results.append(call())
        except Exception as error:
            errors.append(error)
    assert len(errors) in (0, 2), f"only one store raised: {errors}"
    if errors:
        assert type(errors[0]) is type(errors[1]), errors
        return None
    return results[0], results[1]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    sqlite = f"sqlite:///{tmp_path}/studies.db"
    return sqlite if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(url: str, clock: Clock) -> Iterator[SqlStore]:
    store = open_store(url, clock=clock, lease_s=LEASE_S)
    yield store
    store.close()


def check(database: SqlStore, clock: Clock, *, examples: int) -> None:
    run_state_machine_as_test(
        lambda: Stores(database, clock),
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            derandomize=examples < 100,
            database=None,
            phases=[Phase.generate],  # shrinking takes many minutes; a failure prints the calls as they are
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
def test_a_database_is_as_memory(database: SqlStore, clock: Clock) -> None:
    check(database, clock, examples=15)


@pytest.mark.long
def test_a_database_is_as_memory_at_length(database: SqlStore, clock: Clock) -> None:
    check(database, clock, examples=300)
