"""What every dispatcher does: all of it with a real controller, a real store, and looked-up results."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import pytest

from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.dispatch.lease import LeaseKeeper
from sparsesearch.errors import (
    CheckpointError,
    SparseSearchError,
    StaleAttemptError,
    StudyBusyError,
    StudyFailedError,
    UserInputError,
)
from sparsesearch.evaluate.tabulated import TabulatedEvaluator
from sparsesearch.events import Ended, Event, Measured
from sparsesearch.geometry import BackboneGeometry, StageGeometry
from sparsesearch.protocols import Controller, Dispatcher, Evaluator, StudyLedger, StudyStore
from sparsesearch.schedule import Schedule
from sparsesearch.search.stages import StagedController
from sparsesearch.spec import Budget, FidelitySpec, StudySpec
from sparsesearch.store.memory import MemoryStore
from sparsesearch.store.sql import open_store
from sparsesearch.trial import Fidelity, Measurement, NewTrial, Trial, TrialState

MakeDispatcher = Callable[..., Dispatcher]

GEOMETRY = BackboneGeometry(
    name="deit_small_patch16_224",
    image_size=(224, 224),
    stages=(StageGeometry(depth=12, dim=384, attn_dim=384, num_heads=6, mlp_dim=1536, grid=(14, 14)),),
    stem_macs=196 * 768 * 384,
    head_macs=384 * 1000,
    params=22_050_664,
)
SPEC = StudySpec(
    name="study",
    backbone=GEOMETRY.name,
    budget=Budget(high=0.65),
    fidelity=FidelitySpec(evaluations=4, finalists=2),
    seed=1,
)
FIRST_SCREENED, FIRST_PROPOSED, FIRST_FINETUNED, NUM_TRIALS = 2, 4, 8, 12


def table(schedule: Schedule, fidelity: Fidelity) -> list[dict[str, float]]:
    """A made-up accuracy that rises over three epochs."""
    top1 = 0.8 - sum(0.01 * (1 - step.keep_ratio) * (12 - step.block) for step in schedule.steps)
    epochs = 1 if fidelity is Fidelity.SUPERNET else 3
    return [{"val_top1": top1 - 0.1 * (epochs - epoch)} for epoch in range(1, epochs + 1)]


def failing(error: Exception, *, at: int) -> Evaluator:
    """Raises in the middle of trial `at`, and reports all others."""

    class Failing(TabulatedEvaluator):
        def evaluate(self, trial: Trial) -> Iterator[Event]:
            for event in super().evaluate(trial):
                if trial.number == at and isinstance(event, Ended):
                    raise error
                yield event

    return Failing(table)


class Diary:
    """A controller and a ledger in one that notes the order of what happens to them."""

    def __init__(self, controller: Controller, ledger: StudyLedger) -> None:
        self.spec = ledger.spec
        self.entries: list[tuple[str, int | None]] = []
        self._controller = controller
        self._ledger = ledger

    def ask(self) -> NewTrial | None:
        asked = self._controller.ask()
        self.entries.append(("ask", None if asked is None else asked.number))
        return asked

    def tell(self, trial: Trial) -> None:
        stored = {stored.number: stored for stored in self._ledger.trials()}
        assert trial == stored[trial.number], "told what is not written"
        self.entries.append(("tell", trial.number))
        self._controller.tell(trial)

    def add_trial(self, trial: NewTrial) -> Trial:
        self.entries.append(("add", trial.number))
        return self._ledger.add_trial(trial)

    def claim(self, number: int, *, retry: bool = False) -> Trial:
        self.entries.append(("claim", number))
        return self._ledger.claim(number, retry=retry)

    def record(self, event: Event) -> Trial:
        self.entries.append((event.kind, event.trial))
        return self._ledger.record(event)

    def trials(self, states: Collection[TrialState] | None = None) -> Sequence[Trial]:
        return self._ledger.trials(states)

    def renew(self) -> None:
        self._ledger.renew()

    def close(self) -> None:
        self._ledger.close()


@pytest.fixture(params=[InlineDispatcher])
def make_dispatcher(request: pytest.FixtureRequest) -> MakeDispatcher:
    made: MakeDispatcher = request.param
    return made


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StudyStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    sql = open_store(f"sqlite:///{tmp_path}/studies.db")
    yield sql
    sql.close()


@pytest.fixture
def ledger(store: StudyStore) -> StudyLedger:
    return store.create_study(SPEC)


def new_controller() -> StagedController:
    return StagedController(SPEC, GEOMETRY)


def finish(make_dispatcher: MakeDispatcher, ledger: StudyLedger) -> list[Trial]:
    """Run to the end; what the trials are then."""
    make_dispatcher().run(new_controller(), ledger, TabulatedEvaluator(table))
    return list(ledger.trials())


@pytest.fixture(scope="module")
def calm() -> list[Trial]:
    """The trials of a study that was left alone."""
    return finish(InlineDispatcher, MemoryStore().create_study(SPEC))


class TestRunning:
    def test_it_runs_until_the_controller_wants_no_more(
        self, make_dispatcher: MakeDispatcher, ledger: StudyLedger, calm: list[Trial]
    ) -> None:
        trials = finish(make_dispatcher, ledger)
        assert trials == calm
        assert len(trials) == NUM_TRIALS
        assert all(trial.state.is_final for trial in trials)
        assert [trial.state for trial in trials[:FIRST_SCREENED]] == [TrialState.REFERENCE] * 2
        assert {trial.state for trial in trials[FIRST_SCREENED:]} == {TrialState.COMPLETE}
        assert [m.step for m in trials[0].measurements] == [1, 2, 3]
        assert [m.step for m in trials[FIRST_SCREENED].measurements] == [0]
        assert [trial.attempt for trial in trials] == [1] * NUM_TRIALS

    def test_every_trial_is_announced_once_it_is_recorded(
        self, make_dispatcher: MakeDispatcher, ledger: StudyLedger
    ) -> None:
        announced: list[Trial] = []

        def on_trial(trial: Trial) -> None:
            assert trial in ledger.trials()
            announced.append(trial)

        make_dispatcher(on_trial=on_trial).run(new_controller(), ledger, TabulatedEvaluator(table))
        assert announced == list(ledger.trials())

    def test_progress_is_announced_once_it_is_recorded(
        self, make_dispatcher: MakeDispatcher, ledger: StudyLedger
    ) -> None:
        announced: list[Trial] = []

        def on_progress(trial: Trial) -> None:
            assert trial in ledger.trials()
            announced.append(trial)

        make_dispatcher(on_progress=on_progress).run(new_controller(), ledger, TabulatedEvaluator(table))
        assert {trial.state for trial in announced} == {TrialState.RUNNING}
        for trial in ledger.trials():
            steps = [len(seen.measurements) for seen in announced if seen.number == trial.number]
            assert steps == list(range(len(trial.measurements) + 1)), "claimed, and then measurement by measurement"

    def test_rows_are_written_before_anything_reacts(
        self, make_dispatcher: MakeDispatcher, ledger: StudyLedger
    ) -> None:
        diary = Diary(new_controller(), ledger)
        make_dispatcher().run(diary, diary, TabulatedEvaluator(table))
        of_dense = [what for what, number in diary.entries if number == 0]
        assert of_dense == ["ask", "add", "claim", "measured", "measured", "measured", "ended", "tell"]
        told = {number: i for i, (what, number) in enumerate(diary.entries) if what == "tell"}
        for i, (what, number) in enumerate(diary.entries):
            assert what == "ask" or (what == "tell") == (told[number] == i)
            assert what in ("ask", "tell") or i < told[number]

    def test_an_event_is_written_before_the_next_is_asked_for(
        self, make_dispatcher: MakeDispatcher, ledger: StudyLedger
    ) -> None:
        class Watching(TabulatedEvaluator):
            def evaluate(self, trial: Trial) -> Iterator[Event]:
                for event in super().evaluate(trial):
                    yield event
                    stored = ledger.trials()[trial.number]
                    if isinstance(event, Measured):
                        assert stored.measurements[-1] == event.measurement
                    else:
                        assert stored.state.is_final

        make_dispatcher().run(new_controller(), ledger, Watching(table))
        assert {trial.state for trial in ledger.trials()} == {TrialState.REFERENCE, TrialState.COMPLETE}

    def test_a_finished_study_is_left_as_it_is(
        self, make_dispatcher: MakeDispatcher, store: StudyStore, ledger: StudyLedger
    ) -> None:
        before = finish(make_dispatcher, ledger)
        ledger.close()

        def never(schedule: Schedule, fidelity: Fidelity) -> list[dict[str, float]]:
            raise AssertionError("nothing is left to evaluate")

        again = store.open_study(SPEC.name)
        make_dispatcher().run(new_controller(), again, TabulatedEvaluator(never))
        assert list(again.trials()) == before


class TestFailures:
    def test_a_raising_evaluator_fails_its_trial_and_the_study_goes_on(
        self, make_dispatcher: MakeDispatcher, ledger: StudyLedger, caplog: pytest.LogCaptureFixture
    ) -> None:
        announced: list[int] = []
        error = RuntimeError("out of memory\nat line 7")
        with caplog.at_level(logging.WARNING):
            make_dispatcher(on_trial=lambda trial: announced.append(trial.number)).run(
                new_controller(), ledger, failing(error, at=FIRST_PROPOSED)
            )
        trials = ledger.trials()
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
        self, make_dispatcher: MakeDispatcher, ledger: StudyLedger
    ) -> None:
        class Endless(TabulatedEvaluator):
            def evaluate(self, trial: Trial) -> Iterator[Event]:
                events = list(super().evaluate(trial))
                yield from events[: -1 if trial.number == FIRST_SCREENED else None]

        make_dispatcher().run(new_controller(), ledger, Endless(table))
        stopped = ledger.trials()[FIRST_SCREENED]
        assert stopped.state is TrialState.FAILED
        assert stopped.reason == "AssertionError: the evaluator stopped without ending the trial"

    def test_a_failed_reference_ends_the_study(self, make_dispatcher: MakeDispatcher, ledger: StudyLedger) -> None:
        with pytest.raises(StudyFailedError, match="the dense training failed: ValueError: no"):
            make_dispatcher().run(new_controller(), ledger, failing(ValueError("no"), at=0))
        assert [trial.state for trial in ledger.trials()] == [TrialState.FAILED]

    @pytest.mark.parametrize(
        "error", [CheckpointError("corrupt; delete it"), UserInputError("mend this"), StaleAttemptError("taken over")]
    )
    def test_what_every_trial_would_meet_ends_the_run_and_can_be_mended(
        self, make_dispatcher: MakeDispatcher, ledger: StudyLedger, calm: list[Trial], error: SparseSearchError
    ) -> None:
        with pytest.raises(type(error), match=str(error)):
            make_dispatcher().run(new_controller(), ledger, failing(error, at=FIRST_FINETUNED))
        stopped = ledger.trials()[-1]
        assert stopped.number == FIRST_FINETUNED
        assert stopped.state is TrialState.RUNNING
        assert finish(make_dispatcher, ledger) == calm

    def test_an_interruption_passes_through(
        self, make_dispatcher: MakeDispatcher, ledger: StudyLedger, calm: list[Trial]
    ) -> None:
        class Interrupted(TabulatedEvaluator):
            def evaluate(self, trial: Trial) -> Iterator[Event]:
                for event in super().evaluate(trial):
                    if trial.number == 1 and isinstance(event, Ended):
                        raise KeyboardInterrupt
                    yield event

        with pytest.raises(KeyboardInterrupt):
            make_dispatcher().run(new_controller(), ledger, Interrupted(table))
        assert [trial.state for trial in ledger.trials()] == [TrialState.REFERENCE, TrialState.RUNNING]
        assert finish(make_dispatcher, ledger) == calm

    def test_a_lost_lease_ends_the_run_and_changes_nothing(
        self, make_dispatcher: MakeDispatcher, store: StudyStore, ledger: StudyLedger, calm: list[Trial]
    ) -> None:
        """Somebody else takes the study over while trial 5 is evaluated."""
        taken: list[StudyLedger] = []
        before: list[Trial] = []

        class Robbed(TabulatedEvaluator):
            def evaluate(self, trial: Trial) -> Iterator[Event]:
                for event in super().evaluate(trial):
                    if trial.number == 5 and not taken:
                        ledger.close()
                        taken.append(store.open_study(SPEC.name))
                        before.extend(taken[0].trials())
                    yield event

        with pytest.raises(StaleAttemptError):
            make_dispatcher().run(new_controller(), ledger, Robbed(table))
        assert list(taken[0].trials()) == before
        assert finish(make_dispatcher, taken[0]) == calm

    def test_a_stale_attempt_ends_the_run(self, make_dispatcher: MakeDispatcher, ledger: StudyLedger) -> None:
        class Overtaken(TabulatedEvaluator):
            def evaluate(self, trial: Trial) -> Iterator[Event]:
                if trial.number == FIRST_SCREENED:
                    ledger.claim(trial.number, retry=True)
                yield from super().evaluate(trial)

        with pytest.raises(StaleAttemptError, match="attempt 1 is refused"):
            make_dispatcher().run(new_controller(), ledger, Overtaken(table))
        overtaken = ledger.trials()[-1]
        assert (overtaken.state, overtaken.attempt, overtaken.measurements) == (TrialState.RUNNING, 2, ())


class TestResuming:
    def test_unfinished_trials_of_the_store_come_first(
        self, make_dispatcher: MakeDispatcher, ledger: StudyLedger, calm: list[Trial]
    ) -> None:
        """A trial that was running, and one that was only written down."""
        controller = new_controller()
        for _ in range(FIRST_SCREENED):
            asked = controller.ask()
            assert asked is not None
            trial = ledger.claim(ledger.add_trial(asked).number)
            for event in TabulatedEvaluator(table).evaluate(trial):
                trial = ledger.record(event)
            controller.tell(trial)
        for _ in range(2):
            asked = controller.ask()
            assert asked is not None
            ledger.add_trial(asked)
        ledger.claim(FIRST_SCREENED)

        diary = Diary(new_controller(), ledger)
        make_dispatcher().run(diary, diary, TabulatedEvaluator(table))
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
        assert list(ledger.trials()) == calm

    @pytest.mark.parametrize("num_events", range(0, 34, 3))
    def test_left_after_any_event_the_study_ends_the_same(
        self,
        make_dispatcher: MakeDispatcher,
        store: StudyStore,
        ledger: StudyLedger,
        calm: list[Trial],
        num_events: int,
    ) -> None:
        class Dying(Diary):
            def record(self, event: Event) -> Trial:
                recorded = super().record(event)
                if sum(what in ("measured", "ended") for what, _ in self.entries) > num_events:
                    raise KeyboardInterrupt
                return recorded

        dying = Dying(new_controller(), ledger)
        with pytest.raises(KeyboardInterrupt):
            make_dispatcher().run(dying, dying, TabulatedEvaluator(table))
        ledger.close()
        assert finish(make_dispatcher, store.open_study(SPEC.name)) == calm


class TestLease:
    def test_it_is_renewed_while_a_trial_takes_its_time(
        self, make_dispatcher: MakeDispatcher, ledger: StudyLedger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept: list[StudyLedger] = []
        enter, leave = LeaseKeeper.__enter__, LeaseKeeper.__exit__

        def entered(keeper: LeaseKeeper) -> LeaseKeeper:
            kept.append(keeper._ledger)
            return enter(keeper)

        def left(keeper: LeaseKeeper, *args: object) -> None:
            kept.remove(keeper._ledger)
            leave(keeper, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(LeaseKeeper, "__enter__", entered)
        monkeypatch.setattr(LeaseKeeper, "__exit__", left)

        class Watching(TabulatedEvaluator):
            def evaluate(self, trial: Trial) -> Iterator[Event]:
                assert kept == [ledger]
                yield from super().evaluate(trial)

        make_dispatcher().run(new_controller(), ledger, Watching(table))
        assert {trial.state for trial in ledger.trials()} == {TrialState.REFERENCE, TrialState.COMPLETE}
        assert kept == []

    def test_nobody_else_can_open_the_study_meanwhile(
        self, make_dispatcher: MakeDispatcher, store: StudyStore, ledger: StudyLedger
    ) -> None:
        refusals: list[StudyBusyError] = []

        class Rivalled(TabulatedEvaluator):
            def evaluate(self, trial: Trial) -> Iterator[Event]:
                with pytest.raises(StudyBusyError, match=str(os.getpid())) as caught:
                    store.open_study(SPEC.name)
                refusals.append(caught.value)
                yield from super().evaluate(trial)

        make_dispatcher().run(new_controller(), ledger, Rivalled(table))
        assert len(refusals) == NUM_TRIALS
        ledger.close()
        store.open_study(SPEC.name).close()


class TestTabulated:
    """The public fake itself."""

    def trial(self, fidelity: Fidelity, *, steps: Sequence[int] = ()) -> Trial:
        asked = new_controller().ask()
        assert asked is not None
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
