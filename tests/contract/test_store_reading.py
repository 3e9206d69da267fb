"""Reading what is shown: the same from every store, and in a database from an index."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sample_study import run_sample, sample_spec
from sqlalchemy import Select, create_engine, text

from sparsesearch.analysis.describe_front import describe_front
from sparsesearch.analysis.read_view import read_view
from sparsesearch.analysis.status import StudyStatus
from sparsesearch.analysis.study_front import BEST_FIRST, study_front
from sparsesearch.analysis.view import StudyView
from sparsesearch.app.read_status import read_status
from sparsesearch.errors import StaleAttemptError, StudyNotFoundError
from sparsesearch.schedule import Schedule
from sparsesearch.store import record_queries
from sparsesearch.store.memory import MemoryStore
from sparsesearch.store.sql import SqlStore, open_store
from sparsesearch.study.digest import StudyDigest, rows_of, spans_of
from sparsesearch.study.events import Ended, Event, Measured
from sparsesearch.study.hits import Hits
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.state import StudyState
from sparsesearch.study.trial import Cost, Fidelity, FinalState, Measurement, NewTrial, Origin, Trial, TrialState

NOW = 1_700_003_600.0


class Clock:
    """A clock that advances by a second with each look."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


Store = MemoryStore | SqlStore


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    clock = Clock()
    if request.param == "memory":
        yield MemoryStore(clock=clock, lease_s=1e6)
        return
    sqlite = f"sqlite:///{tmp_path}/studies.db"
    url = sqlite if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    opened = open_store(url, clock=clock, lease_s=1e6)
    yield opened
    opened.close()


def new(number: int, *, fidelity: Fidelity = Fidelity.SUPERNET, origin: Origin = Origin.SEARCH, ms: bool) -> NewTrial:
    # Costs repeat, and some trials have no latency, so that ties and missing values occur.
    macs = 1_000_000_000 + 1_000_000 * (number * 37 % 23)
    latency_ms = None if not ms or number % 3 else 1.0 + number * 29 % 11
    predicted_ms = None if not ms or number % 5 == 0 else 2.0 + number * 31 % 7
    return NewTrial(
        number=number,
        fidelity=fidelity,
        origin=origin,
        label="search",
        schedule=Schedule.at([3], [0.5]),
        key=f"{number:032x}",
        cost=Cost(macs=macs, params=1, latency_ms=latency_ms, predicted_ms=predicted_ms),
        seed=number,
    )


def measured(trial: Trial, step: int, value: float) -> Measured:
    measurement = Measurement(
        step=step, attempt=trial.attempt, fidelity=trial.fidelity, metrics={"val_top1": value}, seconds=0.5, seed=1
    )
    return Measured(trial=trial.number, attempt=trial.attempt, measurement=measurement)


def fill(writer: StudyWriter, *, ms: bool = True, origin: Origin = Origin.SEARCH) -> None:
    """Trials of two fidelities in every state; some fail, are tried again, or measure what is no number."""
    first = writer.add_trial(
        new(0, fidelity=Fidelity.DENSE, origin=Origin.REFERENCE, ms=ms).model_copy(update={"schedule": Schedule()})
    )
    finish(writer, first, 0.9, TrialState.REFERENCE)
    for number in range(1, 60):
        fidelity = Fidelity.FINETUNE if number > 50 else Fidelity.SUPERNET
        baseline = number % 9 == 0 or origin is Origin.BASELINE
        added = writer.add_trial(new(number, fidelity=fidelity, origin=Origin.BASELINE if baseline else origin, ms=ms))
        if number in (49, 59):
            continue
        if number % 13 == 0:
            writer.claim(number)
            writer.claim(number, retry=True, reason="it was killed")
        value = math.nan if number == 20 else math.inf if number == 21 else (number * 41 % 31) / 31
        if number == 48:
            writer.record(measured(writer.claim(number), 1, 0.5))
        else:
            finish(writer, added, value, TrialState.FAILED if number % 11 == 0 else TrialState.COMPLETE)


def finish(writer: StudyWriter, trial: Trial, value: float, state: FinalState) -> None:
    claimed = writer.claim(trial.number)
    events: list[Event] = [measured(claimed, 1, value / 2), measured(claimed, 2, value)]
    writer.record_all([*events, Ended(trial=trial.number, attempt=claimed.attempt, state=state, reason="it ended")])


@pytest.fixture
def writer(store: Store) -> StudyWriter:
    return store.create_study(sample_spec("study"))


class TestHits:
    HITS = Hits.of([True, False, True], images="screen")

    def test_they_are_read_as_they_were_measured(self, store: Store, writer: StudyWriter) -> None:
        for number in range(3):
            writer.add_trial(new(number, ms=False))
        claimed = writer.claim_all([0, 1, 2])
        events: list[Event] = [measured(claimed[0], 0, 0.5).model_copy(update={"hits": self.HITS})]
        events.append(measured(claimed[1], 0, 0.5))
        for _ in range(2):
            writer.record_all(events)
        later = measured(claimed[0], 1, 0.5).model_copy(update={"hits": Hits.of([False] * 3, images="screen")})
        writer.record(later)
        assert store.hits("study", [0, 1, 2, 7]) == {0: self.HITS}, "the first report is kept"
        assert store.hits("study", []) == {}

    def test_a_rejected_measurement_leaves_none(self, store: Store, writer: StudyWriter) -> None:
        writer.add_trial(new(0, ms=False))
        event = measured(writer.claim(0), 0, 0.5).model_copy(update={"hits": self.HITS})
        writer.claim(0, retry=True)
        with pytest.raises(StaleAttemptError):
            writer.record(event)
        assert store.hits("study", [0]) == {}

    def test_they_are_deleted_with_the_study(self, store: Store, writer: StudyWriter) -> None:
        writer.add_trial(new(0, ms=False))
        writer.record(measured(writer.claim(0), 0, 0.5).model_copy(update={"hits": self.HITS}))
        writer.close()
        store.delete_study("study")
        store.create_study(sample_spec("study"))
        assert store.hits("study", [0]) == {}

    def test_of_no_study(self, store: Store) -> None:
        with pytest.raises(StudyNotFoundError):
            store.hits("nothing", [0])


class TestPages:
    def test_they_are_consecutive(self, store: Store, writer: StudyWriter) -> None:
        fill(writer)
        everything = list(store.trials("study"))
        pages = [store.trials("study", offset=offset, limit=25) for offset in (0, 25, 50, 75)]
        assert [len(page) for page in pages] == [25, 25, 10, 0]
        assert [trial for page in pages for trial in page] == everything
        assert store.trials("study", offset=58) == everything[58:]
        assert store.trials("study", limit=0) == []

    def test_of_some_states_and_numbers(self, store: Store, writer: StudyWriter) -> None:
        fill(writer)
        failed = [trial for trial in store.trials("study") if trial.state is TrialState.FAILED]
        assert len(failed) == 5
        assert store.trials("study", states=[TrialState.FAILED]) == failed
        assert store.trials("study", states=[TrialState.FAILED], offset=1, limit=2) == failed[1:3]
        numbers = {trial.number for trial in failed[:2]} | {1, 2, 1000}
        assert store.trials("study", states=[TrialState.FAILED], numbers=numbers) == failed[:2]
        assert store.trials("study", states=[TrialState.FAILED], numbers=numbers, offset=1, limit=5) == failed[1:2]
        assert [trial.number for trial in store.trials("study", numbers=numbers)] == sorted(numbers - {1000})
        assert store.trials("study", numbers=[]) == store.trials("study", states=[]) == []

    def test_times_of_some_numbers(self, store: Store, writer: StudyWriter) -> None:
        fill(writer)
        times = store.times("study")
        some = store.times("study", numbers=[3, 5, 1000])
        assert some.created_at == times.created_at
        assert some.trials == {number: times.trials[number] for number in (3, 5)}


class TestDigests:
    def test_they_are_those_of_all_trials(self, store: Store, writer: StudyWriter) -> None:
        fill(writer)
        digest = store.digest("study")
        assert digest == StudyDigest.of(store.trials("study"), store.times("study"))
        assert digest.num_trials == 60
        assert digest.number(where=lambda state: state is TrialState.FAILED) == 5
        assert (digest.num_retried, digest.last_failed, digest.last_retried) == (4, 55, 52)

    def test_of_a_new_study(self, store: Store, writer: StudyWriter) -> None:
        digest = store.digest("study")
        assert digest == StudyDigest(last_event_at=store.times("study").created_at)
        writer.add_trial(new(0, ms=False))
        assert store.digest("study").num_trials == 1

    def test_spans_are_those_of_all_trials(self, store: Store, writer: StudyWriter) -> None:
        fill(writer)
        trials, times = store.trials("study"), store.times("study")
        spans = store.spans("study", Fidelity.SUPERNET)
        assert spans == spans_of(trials, Fidelity.SUPERNET, times)
        assert len(spans) == 97
        assert store.spans("study", Fidelity.RETRAIN) == []

    def test_rows_are_those_of_all_trials(self, store: Store, writer: StudyWriter) -> None:
        fill(writer)
        expected = rows_of(store.trials("study"), store.times("study"), store.spec("study").metric)
        found = store.rows("study")
        assert [row[:-1] for row in found] == [row[:-1] for row in expected]
        assert [row.seconds for row in found] == pytest.approx([row.seconds for row in expected])
        assert len({row.state for row in found}) > 2

    @pytest.mark.parametrize(
        "read",
        [
            lambda store: store.digest("none"),
            lambda store: store.rows("none"),
            lambda store: store.spans("none", Fidelity.SUPERNET),
            lambda store: store.front("none", Fidelity.SUPERNET, "macs"),
        ],
    )
    def test_of_no_study(self, store: Store, read: Callable[[Store], object]) -> None:
        with pytest.raises(StudyNotFoundError):
            read(store)


class TestFronts:
    @pytest.mark.parametrize("axis", ["macs", "ms"])
    def test_they_are_those_of_all_trials(self, store: Store, writer: StudyWriter, axis: str) -> None:
        fill(writer)
        trials, metric = store.trials("study"), store.spec("study").metric
        for fidelity in BEST_FIRST:
            alone = [trial for trial in trials if trial.fidelity is fidelity]
            expected = tuple(trial.number for trial in study_front(alone, axis=axis, metric=metric).points)
            assert store.front("study", fidelity, axis).front == expected
        assert len(store.front("study", Fidelity.SUPERNET, axis).front) > 2

    def test_of_baselines_alone(self, store: Store, writer: StudyWriter) -> None:
        fill(writer, origin=Origin.BASELINE)
        found = store.front("study", Fidelity.SUPERNET, "macs")
        assert found.proposal is None
        assert found.front
        assert read_view(store, "study").front.points == ()

    def test_of_a_study_without_latencies(self, store: Store, writer: StudyWriter) -> None:
        fill(writer, ms=False)
        assert store.front("study", Fidelity.SUPERNET, "ms").front == ()
        assert store.front("study", Fidelity.SUPERNET, "macs").proposal == 1

    def test_what_is_shown_is_that_of_all_trials(self, store: Store, writer: StudyWriter) -> None:
        fill(writer)
        whole, some = StudyView.of(store, "study"), read_view(store, "study", axes=["ms"])
        assert len(some.trials) < len(whole.trials) / 2
        for axis in ("macs", "ms"):
            a, b = describe_front(whole, axis=axis), describe_front(some, axis=axis)
            assert (a.front, a.best, a.dense, a.limit) == (b.front, b.best, b.dense, b.limit)
        assert (whole.hypervolume, whole.best, whole.limit) == (some.hypervolume, some.best, some.limit)


class TestStatus:
    @pytest.mark.parametrize("stop_after", [None, 0, 1, 3, 8, 14])
    def test_it_is_that_of_all_trials(
        self, store: Store, stop_after: int | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_sample(store, sample_spec(), stop_after=stop_after)
        assert as_read(store, "sample", monkeypatch) == of_all(store, "sample")
        store.open_study("sample", resume=True)
        status = as_read(store, "sample", monkeypatch)
        assert status == of_all(store, "sample")
        assert (status["running"] != []) is (stop_after is not None)

    def test_with_failures(self, store: Store, writer: StudyWriter, monkeypatch: pytest.MonkeyPatch) -> None:
        fill(writer)
        assert as_read(store, "study", monkeypatch) == of_all(store, "study")
        assert of_all(store, "study")["failed"] == {"count": 5, "last": "trial 55: it ended"}


def as_read(store: Store, study: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: NOW)
        return read_status(store, study).document()


def of_all(store: Store, study: str) -> dict[str, object]:
    return StudyStatus.of(StudyView.of(store, study), now=NOW).document()


class TestSummaries:
    def test_they_are_those_of_all_trials(self, store: Store) -> None:
        for name, origin in (("one", Origin.SEARCH), ("two", Origin.BASELINE)):
            writer = store.create_study(sample_spec(name))
            fill(writer, origin=origin)
            writer.close()
        store.create_study(sample_spec("three"))
        one, two, three = store.summaries()
        assert [summary.spec for summary in (one, two, three)] == [store.spec(name) for name in ("one", "two", "three")]
        assert [summary.num_trials for summary in (one, two, three)] == [60, 60, 0]
        front = StudyView.of(store, "one").front
        assert one.best == max(trial.metrics["val_top1"] for trial in front.points)
        assert (two.best, three.best) == (None, None)
        assert (one.condition.state, three.condition.state) == (StudyState.PAUSED, StudyState.RUNNING)
        assert three.condition.is_leased
        for newest in (0, 1, 2, 3, 4):
            assert list(store.summaries(newest=newest)) == [one, two, three][max(0, 3 - newest) :]

    def test_of_an_empty_database(self, store: Store) -> None:
        assert store.summaries() == []


INDEXED: dict[str, tuple[Select[tuple[object, ...]], str]] = {
    "counts": (record_queries.COUNTS, "ix_trials_state"),
    "retried": (record_queries.NUM_RETRIED, "ix_trials_retried"),
    "last retried": (record_queries.LAST_RETRIED, "ix_trials_retried"),
    "last failed": (record_queries.LAST_FAILED, "ix_trials_state"),
    "last ended": (record_queries.LAST_ENDED_AT, "ix_trials_ended_at"),
    "last started": (record_queries.LAST_STARTED_AT, "ix_trials_state"),
    "last measured": (record_queries.LAST_MEASURED_AT, "ix_trials_state"),
    "front over multiply-adds": (record_queries.FRONTS["macs"], "ix_trials_state"),
    "front over milliseconds": (record_queries.FRONTS["ms"], "ix_trials_state"),
    "proposal": (record_queries.PROPOSALS["macs"], "ix_trials_state"),
    "rows": (record_queries.ROWS, "pk_trials|autoindex_trials"),
    "spans": (record_queries.SPANS, "pk_measurements|autoindex_measurements"),
    "summaries": (record_queries.SUMMARIES, "ix_trials_state"),
}


STUDIES, TRIALS_EACH = 20, 1000


def numbers(name: str, count: int) -> str:
    """A table of the numbers from 0, in both dialects."""
    return f"{name}(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM {name} WHERE n < {count - 1})"


def fill_many(store: SqlStore) -> None:
    """Studies of which each is a small part of the tables, so that reading a whole table would not pay."""
    store.create_study(sample_spec("study-0")).close()
    statements = [
        f"WITH RECURSIVE {numbers('s', STUDIES)} INSERT INTO studies (id, name, spec, created_at) "
        "SELECT n + 1, 'study-' || n, spec, created_at FROM s, studies WHERE n > 0",
        f"WITH RECURSIVE {numbers('s', STUDIES)}, {numbers('t', TRIALS_EACH)} INSERT INTO trials (study_id, number, "
        "state, attempt, fidelity, origin, label, key, seed, macs, params, predicted_ms, schedule, proposal, "
        "created_at, updated_at, started_at, ended_at, score) "
        "SELECT s.n + 1, t.n, CASE WHEN t.n % 100 = 7 THEN 'FAILED' "
        "WHEN t.n > 990 THEN 'RUNNING' ELSE 'COMPLETE' END, CASE WHEN t.n % 200 = 9 THEN 2 ELSE 1 END, 'supernet', "
        "'search', 'search', CAST(s.n AS text) || '-' || CAST(t.n AS text), t.n, 1000 + t.n, 1, 0.5 + t.n, "
        f"'{'x' * 300}', '{'y' * 700}', 1, 1, 1, 2 + t.n, 1.0 / (1 + t.n) FROM s, t",
        "INSERT INTO measurements (study_id, number, step, attempt, fidelity, metrics, seconds, seed, created_at) "
        "SELECT study_id, number, 0, 1, fidelity, '{}', 0.1, 0, 2 + number FROM trials",
    ]
    with store._database.writing() as connection:
        for statement in statements:
            connection.execute(text(statement))
    url = store._database._reads.url
    engine = create_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE" if url.drivername.startswith("postgresql") else "ANALYZE"))
    engine.dispose()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def large_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlStore]:
    folder = tmp_path_factory.mktemp("large")
    url = f"sqlite:///{folder}/a.db" if request.param == "sqlite" else request.getfixturevalue("module_postgres_url")
    store = open_store(url)
    fill_many(store)
    yield store
    store.close()


@pytest.mark.parametrize("what", INDEXED)
def test_what_is_shown_is_read_from_an_index(large_store: SqlStore, what: str) -> None:
    query, index = INDEXED[what]
    wanted = {"study": 7, "first": 1, "last": STUDIES, "fidelity": "supernet"}
    dialect = large_store._database._reads.dialect
    explain = "EXPLAIN" if dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    bound = query.params({name: value for name, value in wanted.items() if name in query.compile().params})
    literal = str(bound.compile(dialect=dialect, compile_kwargs={"literal_binds": True})).replace("%%", "%")
    with large_store._database.reading() as connection:
        plan = "\n".join(str(tuple(row)) for row in connection.exec_driver_sql(f"{explain} {literal}"))
        assert connection.exec_driver_sql(literal).first() is not None
    assert re.search(index, plan), plan
    assert "Seq Scan" not in plan
    assert "SCAN trials\n" not in plan
