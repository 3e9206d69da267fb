"""What every dispatcher does: all of it with a real controller, a real store, and looked-up results."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cluster import local_cluster
from observing import Telling
from sample_study import DEIT_SMALL as GEOMETRY
from sample_study import prepared
from small_disk import small_disk
from tabled import endless, failing, never, table, tabled, writing

from sparsesearch.dispatch.fault_pause import FaultPause
from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.errors import (
    CheckpointError,
    InfrastructureError,
    SparseSearchError,
    StaleAttemptError,
    StudyBusyError,
    StudyFailedError,
    UserInputError,
)
from sparsesearch.evaluate.tabulated import TabulatedEvaluator
from sparsesearch.schedule import Schedule
from sparsesearch.search.controller import StagedController
from sparsesearch.store.memory import MemoryStore
from sparsesearch.store.sql import open_store
from sparsesearch.study.events import Ended, Event, Measured
from sparsesearch.study.protocols import Controller, Dispatcher, Done, StudyStore, StudyWriter, Wait
from sparsesearch.study.spec import Budget, FidelitySpec, ResourceSpec, StudySpec
from sparsesearch.study.trial import Fidelity, Measurement, NewTrial, Trial, TrialState
from sparsesearch.study.work_board import WorkBoard

MakeDispatcher = Callable[..., Dispatcher]
Before = Callable[[str, int], None]

SPEC = prepared(
    StudySpec(
        name="study",
        backbone=GEOMETRY.name,
        budget=Budget(high=0.65),
        fidelity=FidelitySpec(evaluations=4, finalists=2),
        seed=1,
    ),
    GEOMETRY,
)
FIRST_SCREENED, FIRST_PROPOSED, FIRST_FINETUNED, NUM_TRIALS = 2, 4, 8, 13


class Diary:
    """A controller and a writer in one that notes the order of what happens to them.

    Args:
        controller: Decides.
        writer: Keeps.
        before: Called before each trial, claim and event is written.
    """

    def __init__(
        self, controller: Controller, writer: StudyWriter, *, before: Before = lambda what, number: None
    ) -> None:
        self.spec = writer.spec
        self.entries: list[tuple[str, int | None]] = []
        self._before = before
        self._controller = controller
        self._writer = writer

    def ask(self) -> NewTrial | Wait | Done:
        asked = self._controller.ask()
        self.entries.append(("ask", asked.number if isinstance(asked, NewTrial) else None))
        return asked

    def tell(self, trial: Trial) -> None:
        stored = {stored.number: stored for stored in self._writer.trials()}
        assert trial == stored[trial.number], "told what is not written"
        if trial.state.is_final:
            self.entries.append(("tell", trial.number))
        self._controller.tell(trial)

    def add_trials(self, trials: Sequence[NewTrial]) -> list[Trial]:
        for trial in trials:
            self._before("add", trial.number)
            self.entries.append(("add", trial.number))
        return self._writer.add_trials(trials)

    def claim_all(self, numbers: Sequence[int]) -> list[Trial]:
        for number in numbers:
            self._before("claim", number)
            self.entries.append(("claim", number))
        return self._writer.claim_all(numbers)

    def claim(self, number: int, *, retry: bool = False, reason: str | None = None) -> Trial:
        self._before("claim", number)
        self.entries.append(("claim", number))
        return self._writer.claim(number, retry=retry, reason=reason)

    def record(self, event: Event) -> Trial:
        return self.record_all([event])[0]

    def record_all(self, events: Sequence[Event]) -> list[Trial]:
        for event in events:
            self._before(event.kind, event.trial)
        latest = {trial.number: trial for trial in self._writer.trials()}
        recorded = self._writer.record_all(events)
        for event, trial in zip(events, recorded, strict=True):
            if trial != latest[trial.number]:  # recording again changes nothing
                self.entries.append((event.kind, event.trial))
            latest[trial.number] = trial
        return recorded

    def trials(self, states: Collection[TrialState] | None = None) -> Sequence[Trial]:
        return self._writer.trials(states)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def close(self) -> None:
        self._writer.close()


def inline(**callbacks: Any) -> Dispatcher:
    return InlineDispatcher(**callbacks)


@pytest.fixture(scope="module")
def on_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeDispatcher]:
    """One trial at a time and no second attempt, so that everything happens as it does inline."""
    from sparsesearch.dispatch.tune import RayDispatcher

    storage = tmp_path_factory.mktemp("storage")
    resources = ResourceSpec(max_concurrent=1, max_retries=0)
    with local_cluster():
        yield lambda **callbacks: RayDispatcher(resources, storage=storage, **callbacks)


@pytest.fixture(params=["inline-memory", "inline-sqlite", pytest.param("ray-sqlite", marks=pytest.mark.slow)])
def kind(request: pytest.FixtureRequest) -> str:
    """Which dispatcher and store."""
    return str(request.param)


@pytest.fixture
def store(kind: str, tmp_path: Path) -> Iterator[StudyStore]:
    if kind.endswith("memory"):
        yield MemoryStore()
        return
    sql = open_store(f"sqlite:///{tmp_path}/studies.db")
    yield sql
    sql.close()


@pytest.fixture
def make_dispatcher(kind: str, request: pytest.FixtureRequest) -> MakeDispatcher:
    made: MakeDispatcher = inline if kind.startswith("inline") else request.getfixturevalue("on_ray")
    return made


@pytest.fixture
def writer(store: StudyStore) -> StudyWriter:
    return store.create_study(SPEC)


def new_controller() -> StagedController:
    return StagedController(SPEC, GEOMETRY)


def finish(make_dispatcher: MakeDispatcher, writer: StudyWriter) -> list[Trial]:
    """Run to the end; what the trials are then."""
    make_dispatcher().run(new_controller(), writer, tabled())
    return list(writer.trials())


class Watching(TabulatedEvaluator):
    """Notes which schedules could share a pass with the one that is evaluated."""

    def __init__(self) -> None:
        super().__init__(table)
        self.followed_by: dict[int, tuple[Schedule, ...]] = {}

    def evaluate(self, trial: Trial) -> Iterator[Event]:
        self.followed_by[trial.number] = trial.followed_by
        yield from super().evaluate(trial)


BATCH = 3
BATCHED = SPEC.model_copy(
    update={
        "fidelity": SPEC.fidelity.model_copy(update={"evaluations": 6}),
        "resolved": SPEC.resolved.model_copy(update={"proposal_batch": BATCH}) if SPEC.resolved else None,
    }
)


class TestBatches:
    """Inline; `test_ray_dispatcher` has the same for actors."""

    def run(self, writer: StudyWriter, evaluator: TabulatedEvaluator, *, diary: Diary | None = None) -> list[Trial]:
        controller: Any = diary or StagedController(BATCHED, GEOMETRY)
        inline().run(controller, diary or writer, evaluator)
        return list(writer.trials())

    def test_evaluations_are_asked_for_together_and_each_knows_those_that_follow(self) -> None:
        evaluator = Watching()
        trials = self.run(MemoryStore().create_study(BATCHED), evaluator)
        screened = [trial for trial in trials if trial.fidelity is Fidelity.SUPERNET]
        assert len(screened) == 8
        for start in (0, 3, 6):
            batch = screened[start : start + BATCH]
            for i, trial in enumerate(batch):
                assert evaluator.followed_by[trial.number] == tuple(later.schedule for later in batch[i + 1 :])
                if trial.proposal is not None:
                    assert max(trial.proposal.seen, default=0) < batch[0].number
        assert all(evaluator.followed_by[t.number] == () for t in trials if t.fidelity is not Fidelity.SUPERNET)
        assert {trial.state for trial in screened} == {TrialState.COMPLETE}
        assert trials == self.run(MemoryStore().create_study(BATCHED), Watching())
        assert all(trial.followed_by == () for trial in trials), "not stored"

    def test_one_that_fails_fails_alone(self) -> None:
        writer = MemoryStore().create_study(BATCHED)
        inline().run(StagedController(BATCHED, GEOMETRY), writer, failing(RuntimeError("out of memory"), at=3))
        trials = list(writer.trials())
        assert [trial.number for trial in trials if trial.state is TrialState.FAILED] == [3]
        assert all(trial.state.is_final for trial in trials)

    @pytest.mark.parametrize("what", ["add", "claim", "measured", "ended"])
    def test_left_anywhere_the_study_ends_the_same(self, what: str) -> None:
        """Killed before the Nth write of a kind, for every N; also while a batch is asked for, and while claimed."""
        calm = self.run(MemoryStore().create_study(BATCHED), Watching())
        for number in range(len(calm)):
            store = MemoryStore()
            writer = store.create_study(BATCHED)

            def leave(kind: str, trial: int, number: int = number) -> None:
                if (kind, trial) == (what, number):
                    raise KeyboardInterrupt

            diary = Diary(StagedController(BATCHED, GEOMETRY), writer, before=leave)
            with pytest.raises(KeyboardInterrupt):
                self.run(writer, Watching(), diary=diary)
            writer.close()
            assert self.run(store.open_study(BATCHED.name), Watching()) == calm


def left_and_resumed(make_dispatcher: MakeDispatcher, store: StudyStore, *, num_events: int) -> list[Trial]:
    """Interrupt a study when so many events and one more are written, and finish it; what the trials are then."""

    class Dying(Diary):
        def record_all(self, events: Sequence[Event]) -> list[Trial]:
            recorded = super().record_all(events)
            if sum(what in ("measured", "ended") for what, _ in self.entries) > num_events:
                raise KeyboardInterrupt
            return recorded

    writer = store.create_study(SPEC)
    dying = Dying(new_controller(), writer)
    with pytest.raises(KeyboardInterrupt):
        make_dispatcher().run(dying, dying, tabled())
    writer.close()
    return finish(make_dispatcher, store.open_study(SPEC.name))


@pytest.fixture(scope="module")
def calm() -> list[Trial]:
    """The trials of a study that was left alone."""
    return finish(inline, MemoryStore().create_study(SPEC))


class TestRunning:
    def test_it_runs_until_the_controller_wants_no_more(
        self, make_dispatcher: MakeDispatcher, writer: StudyWriter, calm: list[Trial]
    ) -> None:
        trials = finish(make_dispatcher, writer)
        assert trials == calm
        assert len(trials) == NUM_TRIALS
        assert all(trial.state.is_final for trial in trials)
        assert [trial.state for trial in trials[:FIRST_SCREENED]] == [TrialState.REFERENCE] * 2
        assert {trial.state for trial in trials[FIRST_SCREENED:-1]} == {TrialState.COMPLETE}
        assert trials[-1].state is TrialState.REFERENCE, "the dense model, with the same training"
        assert [m.step for m in trials[0].measurements] == [1, 2, 3]
        assert [m.step for m in trials[FIRST_SCREENED].measurements] == [0]
        assert [trial.attempt for trial in trials] == [1] * NUM_TRIALS

    def test_every_trial_is_announced_once_it_is_recorded(
        self, make_dispatcher: MakeDispatcher, writer: StudyWriter
    ) -> None:
        announced: list[Trial] = []

        def on_trial(trial: Trial) -> None:
            assert trial in writer.trials()
            announced.append(trial)

        make_dispatcher(observer=Telling(on_trial)).run(new_controller(), writer, tabled())
        assert announced == list(writer.trials())

    def test_progress_is_announced_once_it_is_recorded(
        self, make_dispatcher: MakeDispatcher, writer: StudyWriter
    ) -> None:
        announced: list[Trial] = []

        def on_progress(trial: Trial) -> None:
            assert trial in writer.trials()
            announced.append(trial)

        make_dispatcher(observer=Telling(on_progress=on_progress)).run(new_controller(), writer, tabled())
        assert {trial.state for trial in announced} == {TrialState.RUNNING}
        for trial in writer.trials():
            steps = [len(seen.measurements) for seen in announced if seen.number == trial.number]
            assert steps == list(range(len(trial.measurements) + 1)), "claimed, and then measurement by measurement"

    def test_rows_are_written_before_anything_reacts(
        self, make_dispatcher: MakeDispatcher, writer: StudyWriter
    ) -> None:
        diary = Diary(new_controller(), writer)
        make_dispatcher().run(diary, diary, tabled())
        of_dense = [what for what, number in diary.entries if number == 0]
        assert of_dense == ["ask", "add", "claim", "measured", "measured", "measured", "ended", "tell"]
        told = {number: i for i, (what, number) in enumerate(diary.entries) if what == "tell"}
        for i, (what, number) in enumerate(diary.entries):
            assert what == "ask" or (what == "tell") == (told[number] == i)
            assert what in ("ask", "tell") or i < told[number]

    def test_an_event_is_written_before_the_next_is_asked_for(self, writer: StudyWriter) -> None:
        """Seen from inside the evaluator, so for one in this process; `test_ray_dispatcher` has the other."""

        class Watching(TabulatedEvaluator):
            def evaluate(self, trial: Trial) -> Iterator[Event]:
                for event in super().evaluate(trial):
                    yield event
                    stored = writer.trials()[trial.number]
                    if isinstance(event, Measured):
                        assert stored.measurements[-1] == event.measurement
                    else:
                        assert stored.state.is_final

        inline().run(new_controller(), writer, Watching(table))
        assert {trial.state for trial in writer.trials()} == {TrialState.REFERENCE, TrialState.COMPLETE}

    def test_a_finished_study_is_left_as_it_is(
        self, make_dispatcher: MakeDispatcher, store: StudyStore, writer: StudyWriter
    ) -> None:
        before = finish(make_dispatcher, writer)
        writer.close()

        again = store.open_study(SPEC.name)
        make_dispatcher().run(new_controller(), again, never())
        assert list(again.trials()) == before


class TestFailures:
    def test_a_raising_evaluator_fails_its_trial_and_the_study_goes_on(
        self, make_dispatcher: MakeDispatcher, writer: StudyWriter, caplog: pytest.LogCaptureFixture
    ) -> None:
        announced: list[int] = []
        error = RuntimeError("out of memory\nat line 7")
        with caplog.at_level(logging.WARNING):
            make_dispatcher(observer=Telling(lambda trial: announced.append(trial.number))).run(
                new_controller(), writer, failing(error, at=FIRST_PROPOSED)
            )
        trials = writer.trials()
        failed = trials[FIRST_PROPOSED]
        assert failed.state is TrialState.FAILED
        assert failed.reason == "RuntimeError: out of memory"
        assert len(failed.measurements) == 1, "what was measured before stays"
        assert all(trial.state.is_final for trial in trials)
        assert {t.state for t in trials if t.number != FIRST_PROPOSED} == {TrialState.REFERENCE, TrialState.COMPLETE}
        assert failed.number not in {trial.parent for trial in trials}
        assert announced == list(range(len(trials)))
        assert "Traceback" not in caplog.text, "people see the reason, not the traceback"

    def test_an_evaluator_that_stops_without_an_end_fails_its_trial(
        self, make_dispatcher: MakeDispatcher, writer: StudyWriter
    ) -> None:
        make_dispatcher().run(new_controller(), writer, endless(at=FIRST_SCREENED))
        stopped = writer.trials()[FIRST_SCREENED]
        assert stopped.state is TrialState.FAILED
        assert stopped.reason is not None
        assert stopped.reason.endswith("the evaluator stopped without ending the trial")

    @pytest.mark.parametrize("at", [FIRST_PROPOSED, FIRST_FINETUNED])
    def test_a_full_disk_is_waited_for(
        self, make_dispatcher: MakeDispatcher, writer: StudyWriter, calm: list[Trial], tmp_path: Path, at: int
    ) -> None:
        lines: list[str] = []
        with small_disk(tmp_path / "disk", kilobytes=64) as disk:
            filler = disk / "filler"
            filler.write_bytes(b"0" * 60_000)

            def waited(seconds: float) -> None:
                filler.unlink(missing_ok=True)
                time.sleep(seconds)

            pause = FaultPause(60.0, progress=WorkBoard(lines.append), sleep=waited)
            make_dispatcher(pause=pause).run(new_controller(), writer, writing(disk, at=at))
            assert (disk / "file").stat().st_size == 32_000
        assert list(writer.trials()) == calm, "it left no trace in the study"
        assert len(lines) == 2
        assert "the disk is full; free some space" in lines[0]
        assert lines[1].startswith("going on after")

    def test_a_disk_that_stays_full_ends_the_run_and_the_study_goes_on_later(
        self, make_dispatcher: MakeDispatcher, writer: StudyWriter, calm: list[Trial], tmp_path: Path
    ) -> None:
        with small_disk(tmp_path / "disk", kilobytes=64) as disk:
            (disk / "filler").write_bytes(b"0" * 60_000)
            with pytest.raises(InfrastructureError, match="the disk is full; free some space"):
                make_dispatcher(pause=FaultPause(1.5)).run(new_controller(), writer, writing(disk, at=FIRST_FINETUNED))
        stopped = writer.trials()[-1]
        assert (stopped.number, stopped.state) == (FIRST_FINETUNED, TrialState.RUNNING)
        assert finish(make_dispatcher, writer) == calm

    def test_a_failed_reference_ends_the_study(self, make_dispatcher: MakeDispatcher, writer: StudyWriter) -> None:
        with pytest.raises(StudyFailedError, match="the dense training failed: ValueError: no"):
            make_dispatcher().run(new_controller(), writer, failing(ValueError("no"), at=0))
        assert [trial.state for trial in writer.trials()] == [TrialState.FAILED]

    @pytest.mark.parametrize("error", [CheckpointError("corrupt; delete it"), UserInputError("mend this")])
    def test_what_every_trial_would_meet_ends_the_run_and_can_be_mended(
        self, make_dispatcher: MakeDispatcher, writer: StudyWriter, calm: list[Trial], error: SparseSearchError
    ) -> None:
        with pytest.raises(type(error), match=str(error)):
            make_dispatcher().run(new_controller(), writer, failing(error, at=FIRST_FINETUNED))
        stopped = writer.trials()[-1]
        assert stopped.number == FIRST_FINETUNED
        assert stopped.state is TrialState.RUNNING
        assert finish(make_dispatcher, writer) == calm

    def test_an_interruption_passes_through(
        self, make_dispatcher: MakeDispatcher, writer: StudyWriter, calm: list[Trial]
    ) -> None:
        def interrupt(what: str, number: int) -> None:
            if (what, number) == ("ended", 1):
                raise KeyboardInterrupt

        diary = Diary(new_controller(), writer, before=interrupt)
        with pytest.raises(KeyboardInterrupt):
            make_dispatcher().run(diary, diary, tabled())
        assert [trial.state for trial in writer.trials()] == [TrialState.REFERENCE, TrialState.RUNNING]
        assert finish(make_dispatcher, writer) == calm

    def test_a_lost_lease_ends_the_run_and_changes_nothing(
        self, make_dispatcher: MakeDispatcher, store: StudyStore, writer: StudyWriter, calm: list[Trial]
    ) -> None:
        """Somebody else takes the study over while trial 5 is evaluated."""
        taken: list[StudyWriter] = []
        before: list[Trial] = []

        def rob(what: str, number: int) -> None:
            if (what, number) == ("measured", 5) and not taken:
                writer.close()
                taken.append(store.open_study(SPEC.name))
                before.extend(taken[0].trials())

        diary = Diary(new_controller(), writer, before=rob)
        with pytest.raises(StaleAttemptError):
            make_dispatcher().run(diary, diary, tabled())
        assert list(taken[0].trials()) == before
        assert finish(make_dispatcher, taken[0]) == calm

    def test_a_stale_attempt_ends_the_run(self, make_dispatcher: MakeDispatcher, writer: StudyWriter) -> None:
        def overtake(what: str, number: int) -> None:
            if (what, number) == ("measured", FIRST_SCREENED):
                writer.claim(number, retry=True)

        diary = Diary(new_controller(), writer, before=overtake)
        with pytest.raises(StaleAttemptError, match="attempt 1 is rejected"):
            make_dispatcher().run(diary, diary, tabled())
        overtaken = writer.trials()[-1]
        assert (overtaken.state, overtaken.attempt, overtaken.measurements) == (TrialState.RUNNING, 2, ())


class TestResuming:
    def test_unfinished_trials_of_the_store_come_first(
        self, make_dispatcher: MakeDispatcher, writer: StudyWriter, calm: list[Trial]
    ) -> None:
        """A trial that was running, and one that was only written down."""
        controller = new_controller()
        for _ in range(FIRST_SCREENED):
            asked = controller.ask()
            assert isinstance(asked, NewTrial)
            trial = writer.claim(writer.add_trial(asked).number)
            for event in TabulatedEvaluator(table).evaluate(trial):
                trial = writer.record(event)
            controller.tell(trial)
        for _ in range(2):
            asked = controller.ask()
            assert isinstance(asked, NewTrial)
            writer.add_trial(asked)
        writer.claim(FIRST_SCREENED)

        diary = Diary(new_controller(), writer)
        make_dispatcher().run(diary, diary, tabled())
        begun = [entry for entry in diary.entries if entry[0] in ("tell", "claim", "ask")]
        assert begun[:8] == [
            ("tell", 0),
            ("tell", 1),
            ("claim", 2),
            ("tell", 2),
            ("claim", 3),
            ("tell", 3),
            ("ask", 4),
            ("claim", 4),
        ]
        assert list(writer.trials()) == calm

    @pytest.mark.parametrize("num_events", [2, 12, 30])
    def test_left_after_some_event_the_study_ends_the_same(
        self, make_dispatcher: MakeDispatcher, store: StudyStore, calm: list[Trial], num_events: int
    ) -> None:
        assert left_and_resumed(make_dispatcher, store, num_events=num_events) == calm

    @pytest.mark.parametrize("num_events", range(34))
    def test_left_after_any_event_inline_the_study_ends_the_same(self, calm: list[Trial], num_events: int) -> None:
        assert left_and_resumed(inline, MemoryStore(), num_events=num_events) == calm


class TestLease:
    def test_nobody_else_can_open_the_study_meanwhile(
        self, make_dispatcher: MakeDispatcher, store: StudyStore, writer: StudyWriter
    ) -> None:
        refusals: list[StudyBusyError] = []

        def rival(what: str, number: int) -> None:
            if what == "claim":
                with pytest.raises(StudyBusyError, match=str(os.getpid())) as caught:
                    store.open_study(SPEC.name)
                refusals.append(caught.value)

        diary = Diary(new_controller(), writer, before=rival)
        make_dispatcher().run(diary, diary, tabled())
        assert len(refusals) == NUM_TRIALS
        writer.close()
        store.open_study(SPEC.name).close()


class TestTabulated:
    """The public fake itself."""

    def trial(self, fidelity: Fidelity, *, steps: Sequence[int] = ()) -> Trial:
        asked = new_controller().ask()
        assert isinstance(asked, NewTrial)
        measurements = tuple(
            Measurement(step=step, attempt=1, fidelity=fidelity, metrics={"val_top1": 0.0}, seconds=0.0, seed=0)
            for step in steps
        )
        fields = {name: getattr(asked, name) for name in NewTrial.model_fields}
        return Trial(
            **{**fields, "fidelity": fidelity},
            study="s",
            state=TrialState.RUNNING,
            attempt=2,
            measurements=measurements,
        )

    def test_it_reports_what_the_table_says(self) -> None:
        *measured, ended = TabulatedEvaluator(table, seconds=2.5).evaluate(self.trial(Fidelity.FINETUNE))
        assert [event.measurement.step for event in measured if isinstance(event, Measured)] == [1, 2, 3]
        assert [event.measurement.metrics for event in measured if isinstance(event, Measured)] == table(
            Schedule(), Fidelity.FINETUNE
        )
        assert {event.measurement.seconds for event in measured if isinstance(event, Measured)} == {2.5}
        assert ended == Ended(trial=0, attempt=2, state=TrialState.REFERENCE)

    def test_it_goes_on_behind_the_last_report(self) -> None:
        events = list(TabulatedEvaluator(table).evaluate(self.trial(Fidelity.FINETUNE, steps=(1, 2))))
        assert [event.kind for event in events] == ["measured", "ended"]
        screened = self.trial(Fidelity.SUPERNET, steps=(0,))
        assert [event.kind for event in TabulatedEvaluator(table).evaluate(screened)] == ["ended"]


def test_the_traceback_of_a_failed_trial_is_kept(writer: StudyWriter, tmp_path: Path) -> None:
    InlineDispatcher(logs=tmp_path / "logs").run(
        new_controller(), writer, failing(RuntimeError("out of memory"), at=FIRST_PROPOSED)
    )
    failed = writer.trials()[FIRST_PROPOSED]
    name = f"logs/trial-{FIRST_PROPOSED:05d}-attempt-1.log"
    assert failed.reason == f"RuntimeError: out of memory (traceback in the study's storage: {name})"
    assert "Traceback (most recent call last)" in (tmp_path / name).read_text()
