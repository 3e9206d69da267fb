"""The Ray dispatcher: recorded before anything reacts, retried, stopped, resumed, and equal to the inline one."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from cluster import local_cluster
from curves import Note, read_notes
from observing import Telling
from sample_study import prepared

from sparsesearch.app.signals import stopping_on_signals
from sparsesearch.dispatch import tune as tune_module
from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.dispatch.tune import RayDispatcher
from sparsesearch.dispatch.tune_scheduler import RecordingScheduler
from sparsesearch.dispatch.tune_searcher import ControllerSearcher, RunCallback
from sparsesearch.errors import ClusterError, StudyFailedError, UserInputError
from sparsesearch.evaluate.portable import PortableEvaluator
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.search.controller import StagedController
from sparsesearch.store.memory import MemoryStore
from sparsesearch.study.events import Checkpointed, Measured
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.spec import Budget, FidelitySpec, ResourceSpec, RungSpec, Strategy, StudySpec, TrainSpec
from sparsesearch.study.stop import StopCause, StoppedError, StopToken
from sparsesearch.study.trial import Fidelity, Origin, Trial, TrialState

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
EPOCHS = 3
GEOMETRY = BackboneGeometry(
    name="small",
    image_size=(32, 32),
    stages=(StageGeometry(depth=6, dim=32, attn_dim=32, num_heads=2, mlp_dim=64, grid=(8, 8)),),
    stem_macs=10_000,
    head_macs=320,
    params=50_000,
)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """For all tests of the module."""
    with local_cluster():
        yield


def spec(*, strategy: Strategy = "supernet", **changes: Any) -> StudySpec:
    fidelity = {"strategy": strategy, "evaluations": 6, "finalists": 2, "finetune": TrainSpec(epochs=EPOCHS)}
    fidelity.update(changes.pop("fidelity", {}))
    unprepared = StudySpec(
        name="study",
        backbone="small",
        budget=Budget(high=0.5),
        fidelity=FidelitySpec(**fidelity),
        dispatcher="ray",
        **changes,
    )
    return prepared(unprepared, GEOMETRY)


def in_batches(study: StudySpec, batch: int) -> StudySpec:
    """A study whose evaluations do not fit in memory."""
    assert study.resolved is not None
    return study.model_copy(update={"resolved": study.resolved.model_copy(update={"proposal_batch": batch})})


class Run:
    """A study in memory that can be run again and again."""

    def __init__(self, study: StudySpec, folder: Path) -> None:
        self.spec = study
        self.folder = folder
        self.store = MemoryStore()
        self.announced: list[int] = []
        self._writer: StudyWriter = self.store.create_study(study)

    def go(
        self,
        *,
        inline: bool = False,
        seconds: float = 0.0,
        meet_s: float = 0.0,
        mishaps: dict[str, Any] | None = None,
        stop: StopToken | None = None,
        **resources: Any,
    ) -> list[Trial]:
        document = {
            "folder": str(self.folder),
            "epochs": EPOCHS,
            "seconds": seconds,
            "meet_s": meet_s,
            "mishaps": mishaps or {},
        }
        evaluator = PortableEvaluator(factory="curves:open_curves", document=document)
        dispatcher: InlineDispatcher | RayDispatcher = (
            InlineDispatcher(observer=Telling(self._on_trial), stop=stop)
            if inline
            else RayDispatcher(
                ResourceSpec(**resources), storage=self.folder, observer=Telling(self._on_trial), stop=stop
            )
        )
        dispatcher.run(StagedController(self.spec, GEOMETRY), self._writer, evaluator)
        return self.trials

    def _on_trial(self, trial: Trial) -> None:
        assert self.trials[trial.number] == trial
        self.announced.append(trial.number)

    @property
    def trials(self) -> list[Trial]:
        return list(self.store.trials("study"))

    @property
    def notes(self) -> list[Note]:
        return read_notes(self.folder)


MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(study: StudySpec | None = None) -> Run:
        return Run(study or spec(), tmp_path)

    return make


def final(trial: Trial) -> bool:
    return trial.state in (TrialState.COMPLETE, TrialState.REFERENCE)


def test_order_of_tune(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every report Tune tells the scheduler first, then the searcher, the callback last; the row is there by then.

    Everything rests on this order of calls inside Ray; a version that changes it must fail here.
    """
    run = make_run()
    calls: list[tuple[str, str]] = []

    def rows() -> str:
        return f"{sum(len(trial.measurements) + trial.state.is_final for trial in run.trials)}"

    class Scheduler(RecordingScheduler):
        def on_trial_result(self, tune_controller: Any, trial: Any, result: Any) -> str:
            calls.append(("scheduler", rows()))
            decision = super().on_trial_result(tune_controller, trial, result)
            calls.append(("recorded", rows()))
            return decision

        def on_trial_complete(self, tune_controller: Any, trial: Any, result: Any) -> None:
            calls.append(("scheduler complete", rows()))
            super().on_trial_complete(tune_controller, trial, result)

    class Searcher(ControllerSearcher):
        def on_trial_result(self, trial_id: str, result: Any) -> None:
            calls.append(("searcher", rows()))

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            calls.append(("searcher complete", rows()))
            super().on_trial_complete(trial_id, result, error)

    class Callback(RunCallback):
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            calls.append(("callback", rows()))

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            calls.append(("callback complete", rows()))
            super().on_trial_complete(iteration, trials, trial, **info)

    monkeypatch.setattr(tune_module, "RecordingScheduler", Scheduler)
    monkeypatch.setattr(tune_module, "ControllerSearcher", Searcher)
    monkeypatch.setattr(tune_module, "RunCallback", Callback)
    run.go(max_concurrent=1)

    of_first = calls[: next(i for i, call in enumerate(calls) if call[0] == "callback complete") + 1]
    names = [name for name, _ in of_first]
    going_on = ["scheduler", "recorded", "searcher", "callback"]
    ending = ["scheduler", "recorded", "callback", "scheduler complete", "searcher complete", "callback complete"]
    assert names == going_on * (2 * EPOCHS) + ending  # each epoch reports a measurement and a checkpoint
    written = [int(count) for _, count in of_first]
    assert written[0:4] == [0, 1, 1, 1]
    assert written[4:8] == [1, 1, 1, 1]  # the checkpoint
    assert written[8:10] == [1, 2]
    assert written[-6:] == [EPOCHS, EPOCHS + 1, EPOCHS + 1, EPOCHS + 1, EPOCHS + 1, EPOCHS + 1]


def test_study_runs_to_its_end(make_run: MakeRun) -> None:
    run = make_run()
    trials = run.go()
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert all(final(trial) for trial in trials)
    assert sorted(run.announced) == [trial.number for trial in trials]
    assert {trial.fidelity for trial in trials} == {
        Fidelity.DENSE,
        Fidelity.SUPERNET_TRAINING,
        Fidelity.SUPERNET,
        Fidelity.FINETUNE,
    }
    assert sum(trial.proposal is not None for trial in trials) == 6
    for trial in trials:
        steps = [0] if trial.fidelity is Fidelity.SUPERNET else list(range(1, EPOCHS + 1))
        assert [measurement.step for measurement in trial.measurements] == steps
    begun = [(note.trial, note.epoch) for note in run.notes if note.what == "BEGUN"]
    assert len(begun) == len(set(begun)), "no epoch was repeated"
    assert os.getpid() not in {note.pid for note in run.notes}


@pytest.mark.parametrize(("strategy", "batch"), [("supernet", 1), ("supernet", 3), ("finetune", 1)])
def test_agrees_with_inline_one_at_a_time(make_run: MakeRun, tmp_path: Path, strategy: Strategy, batch: int) -> None:
    """In one process there is no timing, so that the tables are the same to the byte."""
    (tmp_path / "inline").mkdir()
    study = in_batches(spec(strategy=strategy), batch)
    inline = Run(study, tmp_path / "inline").go(inline=True)
    on_ray = make_run(study).go(max_concurrent=1)
    assert repr(on_ray) == repr(inline)  # NaN is not equal to itself


def test_evaluations_of_a_batch_are_divided_among_the_actors(make_run: MakeRun) -> None:
    run = make_run(in_batches(spec(fidelity={"evaluations": 10}), 4))
    trials = run.go(seconds=0.2)
    assert all(final(trial) and trial.attempt == 1 for trial in trials)
    evaluated = [n for n in run.notes if n.what == "BEGUN" and n.fidelity == Fidelity.SUPERNET]
    assert len(evaluated) == sum(trial.fidelity is Fidelity.SUPERNET for trial in trials) > 10
    assert [note.followed_by for note in evaluated].count(1) >= 5
    assert max(note.followed_by for note in evaluated) == 1
    assert len({note.pid for note in evaluated}) == 2


def test_evaluations_do_not_wait_for_a_core_that_somebody_else_has(make_run: MakeRun) -> None:
    """Two studies on one cluster that each have one of its two cores would wait for each other for ever."""

    @ray.remote(num_cpus=1)
    class Other:
        def ready(self) -> None:
            pass

    run = make_run(spec(strategy="training-free", fidelity={"evaluations": 6, "finalists": 0}))
    others: list[Any] = []

    def take_a_core() -> None:
        """When the dense training, which needs both, has begun: it is then the next one to get a core."""
        while not run.notes:
            time.sleep(0.1)
        others.append(Other.remote())

    thread = threading.Thread(target=take_a_core)
    thread.start()
    timer = threading.Timer(90.0, lambda: ray.kill(others[0]))  # so that the test fails, and does not hang
    timer.start()
    trials = run.go(seconds=0.5)
    assert timer.is_alive(), "the evaluations waited for the core"
    timer.cancel()
    thread.join()
    assert all(final(trial) for trial in trials)
    assert len({note.pid for note in run.notes if note.fidelity == Fidelity.UNTRAINED}) == 1
    ray.kill(others[0])


def test_a_failure_is_not_that_of_the_others_in_its_batch(make_run: MakeRun) -> None:
    """An error says whose it is; a process that dies does not, so that its trials are tried again one by one."""
    mishaps = {
        "4": {"how": "raise", "epoch": 0, "attempts": [1]},
        "6": {"how": "kill", "epoch": 0},
    }
    run = make_run(in_batches(spec(), 8))
    trials = run.go(mishaps=mishaps, max_concurrent=1)
    evaluated = [trial for trial in trials if trial.fidelity is Fidelity.SUPERNET]
    assert {trial.number: trial.attempt for trial in evaluated} == {2: 1, 3: 1, 4: 2, 5: 2, 6: 3, 7: 2, 8: 2}
    assert [trial.number for trial in trials if trial.state is TrialState.FAILED] == [6]
    begun = [n for n in run.notes if n.what == "BEGUN" and n.fidelity == Fidelity.SUPERNET]
    assert begun[0].followed_by == len(evaluated) - 1
    assert {note.followed_by for note in begun if note.attempt > 1} == {0}
    assert sorted(run.announced) == list(range(len(trials)))


def test_trainings_overlap_in_processes_of_their_own(make_run: MakeRun) -> None:
    run = make_run(spec(strategy="finetune", fidelity={"evaluations": 2}))
    run.go(meet_s=120.0)
    spans: dict[int, list[float]] = {}
    for note in run.notes:
        spans.setdefault(note.trial, []).append(note.at)
    tuned = [trial.number for trial in run.trials if trial.fidelity is Fidelity.FINETUNE]
    ends = [(min(spans[number]), max(spans[number])) for number in tuned]
    at_once = max(sum(start <= moment <= end for start, end in ends) for moment, _ in ends)
    assert at_once == 2
    assert len({note.pid for note in run.notes if note.trial in tuned}) == 2, "actors are used again"


def test_mishaps(make_run: MakeRun) -> None:
    """Errors and killed processes are retried from the last checkpoint and counted; the study goes on."""
    mishaps = {
        "3": {"how": "kill", "epoch": 0, "attempts": [1]},
        "4": {"how": "kill", "epoch": 0},
        "5": {"how": "raise", "epoch": 0, "attempts": [1, 2]},
        "10": {"how": "raise", "epoch": 3, "attempts": [1]},
        "11": {"how": "kill", "epoch": 2, "attempts": [1]},
        "12": {"how": "raise", "epoch": 1},
        "13": {"how": "nan", "epoch": 2},
    }
    run = make_run(spec(fidelity={"finalists": 4}))
    trials = run.go(mishaps=mishaps)
    assert {trial.fidelity for trial in trials[3:6]} == {Fidelity.SUPERNET}
    assert {trial.fidelity for trial in trials[10:14]} == {Fidelity.FINETUNE}
    assert [trial.number for trial in trials if trial.state is TrialState.FAILED] == [4, 12, 13]
    assert all(final(trial) for trial in trials if trial.number not in (4, 12, 13))
    assert sorted(run.announced) == list(range(len(trials)))

    attempts = {"3": 2, "4": 3, "5": 3, "10": 2, "11": 2, "12": 3}
    assert {str(trial.number): trial.attempt for trial in trials if trial.attempt > 1} == attempts
    died = "the worker process died"
    assert died in (trials[3].reason or "")
    assert died in (trials[4].reason or "")
    assert (trials[4].reason or "").endswith(" (attempt 3, the last)")
    assert trials[5].reason == "attempt 2 failed: RuntimeError: something broke"
    assert trials[10].reason == "attempt 1 failed: RuntimeError: something broke"
    assert died in (trials[11].reason or "")
    assert trials[12].reason == "RuntimeError: something broke (attempt 3, the last)"
    assert trials[13].reason == "loss is NaN", "a result, which another attempt would only repeat"

    assert [(m.step, m.attempt) for m in trials[10].measurements] == [(1, 1), (2, 1), (3, 2)]
    begun = [(n.attempt, n.epoch) for n in run.notes if n.trial == 10 and n.what == "BEGUN"]
    assert begun == [(1, 1), (1, 2), (1, 3), (2, 3)]
    begun = [(n.attempt, n.epoch) for n in run.notes if n.trial == 11 and n.what == "BEGUN"]
    assert begun == [(1, 1), (1, 2), (2, 2), (2, 3)]


@pytest.mark.parametrize("number", [0, 4])
def test_bad_input_ends_the_run_with_its_one_line(make_run: MakeRun, number: int) -> None:
    run = make_run()
    with pytest.raises(UserInputError, match=r"^the data is gone; put it back$"):
        run.go(mishaps={str(number): {"how": "refuse", "epoch": 0 if number == 4 else 1}})
    assert run.trials[number].state is TrialState.RUNNING, "to go on when the data is back"


def test_failed_reference_ends_the_study(make_run: MakeRun) -> None:
    with pytest.raises(StudyFailedError, match="the supernet training failed: RuntimeError"):
        make_run().go(mishaps={"1": {"how": "raise", "epoch": 1}}, max_retries=0)


def test_rungs_stop_the_worse(make_run: MakeRun) -> None:
    study = spec(strategy="finetune", fidelity={"evaluations": 9, "rungs": RungSpec(first_epoch=1, factor=2)})
    run = make_run(study)
    trials = run.go()
    stopped = [trial for trial in trials if trial.state is TrialState.STOPPED]
    assert stopped
    for trial in stopped:
        assert trial.origin is Origin.SEARCH
        assert trial.epochs_done in (1, 2)
        assert trial.reason == f"below the best 1 of 2 after epoch {trial.epochs_done}"
    rest = [trial for trial in trials if trial not in stopped]
    assert all(final(trial) and trial.epochs_done == EPOCHS for trial in rest)
    worst_kept = min(t.measurements[0].metrics["val_top1"] for t in rest if t.origin is Origin.SEARCH)
    first_rung = [t.measurements[0].metrics["val_top1"] for t in stopped if t.epochs_done == 1]
    assert all(top1 < max(worst_kept, sorted(first_rung)[-1] + 1e-9) for top1 in first_rung)


class LateWriter:
    """Stands for a driver that dies: refuses to write from the Nth event of a kind on."""

    def __init__(self, writer: StudyWriter, *, kind: type, count: int) -> None:
        self.spec = writer.spec
        self._writer = writer
        self._kind = kind
        self._left = count

    def record(self, event: Any) -> Trial:
        self._left -= isinstance(event, self._kind)
        if self._left < 0:
            raise ConnectionError("the database is gone")
        return self._writer.record(event)

    def claim(self, number: int, *, retry: bool = False, reason: str | None = None) -> Trial:
        return self._writer.claim(number, retry=retry, reason=reason)

    def trials(self, states: Any = None) -> Any:
        return self._writer.trials(states)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def close(self) -> None:
        self._writer.close()


@pytest.mark.parametrize(("kind", "count"), [(Measured, 1), (Checkpointed, 7)])
def test_run_that_cannot_record_ends_and_goes_on_later(make_run: MakeRun, kind: type, count: int) -> None:
    run = make_run(spec(strategy="finetune"))
    whole = run._writer
    run._writer = LateWriter(whole, kind=kind, count=count)  # type: ignore[assignment]
    with pytest.raises(ConnectionError, match="the database is gone"):
        run.go()
    assert any(trial.state is TrialState.RUNNING for trial in run.trials)
    run._writer = whole
    trials = run.go()
    assert all(final(trial) and trial.attempt == 1 for trial in trials)
    repeated = len([note for note in run.notes if note.what == "BEGUN"]) - EPOCHS * len(trials)
    assert 0 <= repeated <= 2, "at most the epoch under way of each running trial"


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C is heard, also where the tests run in a job that ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_keeps_the_epochs_under_way(make_run: MakeRun) -> None:
    run = make_run(spec(strategy="finetune"))

    def press() -> None:
        while not any(note.trial >= 2 for note in run.notes):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    before = signal.getsignal(signal.SIGINT)
    token = StopToken()
    with stopping_on_signals(token, at_once=False), pytest.raises(StoppedError) as caught:
        run.go(seconds=0.5, stop=token)
    assert caught.value.cause is StopCause.INTERRUPT
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
    running = [trial for trial in run.trials if trial.state is TrialState.RUNNING]
    assert running
    for trial in running:
        assert trial.checkpoint is not None
        assert trial.checkpoint.step == trial.epochs_done
    assert all(final(trial) for trial in run.go())
    begun = [(note.trial, note.epoch) for note in run.notes if note.what == "BEGUN"]
    assert len(begun) == len(set(begun)), "no epoch was repeated"


def test_evaluator_must_be_portable(make_run: MakeRun) -> None:
    run = make_run()
    dispatcher = RayDispatcher(ResourceSpec(), storage=run.folder)
    with pytest.raises(TypeError, match="PortableEvaluator"):
        dispatcher.run(StagedController(run.spec, GEOMETRY), run._writer, object())  # type: ignore[arg-type]


def test_trial_larger_than_any_machine_is_refused(make_run: MakeRun) -> None:
    with pytest.raises(ClusterError, match=r"no machine .* 64 CPUs .*--cpus-per-trial"):
        make_run().go(cpus_per_trial=64)
