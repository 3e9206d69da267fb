"""What a running process knows of its study, compared with what the store knows."""

from dataclasses import replace

from sample_study import DEIT_SMALL, MadeUpEvaluator, sample_spec, ticking

from sparsesearch.analysis.status import StudyStatus
from sparsesearch.analysis.view import StudyView
from sparsesearch.console.watch import Change, StudyWatch
from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.search.controller import StagedController
from sparsesearch.store.memory import MemoryStore
from sparsesearch.study.observer import NoObserver
from sparsesearch.study.trial import StudyTimes, TrialState
from sparsesearch.study.work_board import WorkBoard

START = 1_780_000_000.0
NOW = 1_780_000_900.0


def empty(view):
    return StudyView(spec=view.spec, trials=(), times=StudyTimes(created_at=view.times.created_at))


def steps_of(trial):
    """The trial as it was recorded, time after time."""
    running = trial.model_copy(update={"state": TrialState.RUNNING, "measurements": ()})
    yield running, Change.STARTED
    for count in range(1, len(trial.measurements) + 1):
        yield running.model_copy(update={"measurements": trial.measurements[:count]}), Change.MEASURED
    yield trial, Change.ENDED


def test_it_sees_what_the_store_holds(make_view):
    view = make_view()
    watch = StudyWatch(empty(view), clock=lambda: NOW)
    for trial in view.trials:
        assert [watch.take(recorded) for recorded, _ in steps_of(trial)] == [what for _, what in steps_of(trial)]
    seen, stored = watch.status(), StudyStatus.of(replace(view, condition=watch.status().condition), now=NOW)
    assert seen.best == stored.best
    assert seen.phases == stored.phases
    assert (seen.front_size, seen.hypervolume) == (stored.front_size, stored.hypervolume)


def test_an_attempt_begins_once_and_the_next_one_again(make_view):
    view = make_view(0)
    (running,) = view.trials
    watch = StudyWatch(view, clock=lambda: NOW)
    assert watch.take(running) is Change.STARTED, "it goes on where an earlier run left it"
    assert watch.take(running) is None
    again = running.model_copy(update={"attempt": 2, "reason": "attempt 1 failed: lost"})
    assert watch.take(again) is Change.STARTED
    assert watch.take(again) is None
    assert watch.status().retried.last == "trial 0: attempt 1 failed: lost"


def test_looking_again_costs_little(make_view):
    view = make_view()
    watch = StudyWatch(view, clock=lambda: NOW)
    assert watch.status().best is watch.status().best
    first = watch._view
    watch.status()
    assert watch._view is first, "nothing happened, so nothing is put together anew"


def test_status_and_bars_agree_at_every_event():
    """What the running process shows, and what another terminal reads from the store."""
    clock = ticking(START)
    spec, store = sample_spec(), MemoryStore(clock=clock)
    writer = store.create_study(spec)
    board = WorkBoard(lambda text: None)
    watch = StudyWatch(StudyView.of(store, spec.name), work=board.work, clock=lambda: NOW)
    compared = []

    class Comparing(NoObserver):
        def changed(self, trial):
            watch.take(trial)
            with board.bar("an epoch", 10, trial=trial.number) as bar:
                bar.advance(3, note="loss 1.0")
                writer.show_work(board.work())
                shown = without_clocks(watch.status().document())
                stored = without_clocks(StudyStatus.of(StudyView.of(store, spec.name), now=NOW).document())
            assert shown == stored
            compared.append(shown)

    InlineDispatcher(observer=Comparing()).run(StagedController(spec, DEIT_SMALL), writer, MadeUpEvaluator())
    assert len(compared) > 100
    assert all(document["state"] == "RUNNING" and len(document["work"]) == 1 for document in compared)


def without_clocks(document):
    clocks = ("elapsed_s", "left_s")
    running = [{key: value for key, value in trial.items() if key != "seconds"} for trial in document["running"]]
    return {key: value for key, value in document.items() if key not in clocks} | {"running": running}
