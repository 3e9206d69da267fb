"""Where a study stands, on made-up accuracies and a clock that moves on by itself."""

import json
from dataclasses import replace

import pytest
from sample_study import MadeUpEvaluator, run_sample, sample_spec, ticking

from sparsesearch.analysis.status import StudyStatus
from sparsesearch.analysis.view import StudyView
from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.errors import StudyFailedError
from sparsesearch.search.controller import StagedController
from sparsesearch.store.memory import MemoryStore
from sparsesearch.study.events import Ended, Measured
from sparsesearch.study.spec import Budget
from sparsesearch.study.state import StudyCondition, StudyState
from sparsesearch.study.trial import Fidelity, StudyTimes, TrialState, TrialTimes

START = 1_780_000_000.0
WORK = {"dense": 0.4, "supernet_training": 0.3, "screen": 0.1, "finetune": 0.2}
NUM_SCREENED, NUM_FINETUNED = 22, 14  # 12 schedules and 3 finalists, 10 hand-crafted baselines each, and dense
NUM_TRAINED = 15  # there is a fourth finalist, so that each budget of the baselines has one


def planned(spec, **changes):
    resolved = spec.resolved.model_copy(update={"planned_work": WORK})
    return spec.model_copy(update={"resolved": resolved, **changes})


RUNNING = StudyCondition(state=StudyState.RUNNING, is_leased=True)


def status_of(view, *, now, condition=RUNNING):
    return StudyStatus.of(replace(view, condition=condition), now=now)


def after(num_trials, *, spec=None, state=StudyState.RUNNING, now=START + 1000.0):
    spec = spec or planned(sample_spec())
    store = MemoryStore(clock=ticking(START))
    run_sample(store, spec, stop_after=num_trials)
    condition = StudyCondition(state=state, is_leased=state.is_active)
    return status_of(StudyView.of(store, spec.name), now=now, condition=condition)


def counts(status):
    return {phase.name: (phase.done, phase.total, phase.running) for phase in status.phases}


class Clock:
    """A second passes when the evaluator says so."""

    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now


class Timed(MadeUpEvaluator):
    """Epochs of ten seconds, evaluations of one."""

    def __init__(self, clock, *, stop_after=None, factor=1.0):
        super().__init__(stop_after=stop_after)
        self._clock = clock
        self._factor = factor

    def evaluate(self, trial):
        for event in super().evaluate(trial):
            if isinstance(event, Measured):
                seconds = 1.0 if trial.fidelity is Fidelity.SUPERNET else 10.0 * self._factor
                self._clock.now += seconds
                measurement = event.measurement.model_copy(update={"seconds": seconds})
                event = event.model_copy(update={"measurement": measurement})
            yield event


def timed(num_trials, *, spec=None, factor=1.0):
    """The study after so many trials; the clock stands at the last event."""
    spec = spec or planned(sample_spec())
    clock = Clock()
    store = MemoryStore(clock=clock)
    writer = store.create_study(spec)
    evaluator = Timed(clock, stop_after=num_trials, factor=factor)
    with pytest.raises(KeyboardInterrupt):
        InlineDispatcher().run(StagedController(spec, spec.resolved.geometry), writer, evaluator)
    return StudyView.of(store, spec.name), clock


class TestPhases:
    def test_of_a_study_that_has_just_begun(self):
        assert counts(after(0)) == {
            "dense": (0, 1, 1),
            "supernet": (0, 1, 0),
            "search": (0, NUM_SCREENED, 0),
            "fine-tuning": (0, NUM_FINETUNED, 0),
        }

    def test_of_a_study_in_its_search(self):
        status = after(20)
        assert counts(status)["search"] == (18, NUM_SCREENED, 1)
        assert [phase.is_over for phase in status.phases] == [True, True, False, False]
        assert status.phase.name == "search"

    def test_of_a_finished_study(self):
        status = after(None, state=StudyState.FINISHED)
        assert counts(status) == {
            "dense": (1, 1, 0),
            "supernet": (1, 1, 0),
            "search": (NUM_SCREENED, NUM_SCREENED, 0),
            "fine-tuning": (NUM_TRAINED, NUM_TRAINED, 0),
        }
        assert all(phase.is_over and phase.share == 1.0 for phase in status.phases)
        assert status.phase is None

    def test_without_supernet_training_there_are_two(self):
        spec = sample_spec(evaluations=3)
        spec = spec.model_copy(update={"fidelity": spec.fidelity.model_copy(update={"strategy": "finetune"})})
        assert counts(after(2, spec=spec)) == {"dense": (1, 1, 0), "fine-tuning": (1, 14, 1)}

    def test_hand_families_that_cannot_reach_the_budget_are_not_waited_for(self):
        spec = sample_spec(evaluations=2).model_copy(update={"budget": Budget(low=0.28, high=0.6)})
        done = counts(after(None, spec=spec, state=StudyState.FINISHED))["search"]
        assert counts(after(0, spec=spec))["search"][1] == done[1] < 12

    def test_epochs_of_what_runs_count(self):
        view, clock = timed(2 + NUM_SCREENED + 1)
        *_, finetuning = status_of(view, now=clock()).phases
        assert (finetuning.epochs, finetuning.epochs_done, finetuning.epochs_total) == (2, 2, 2 * NUM_FINETUNED)
        assert finetuning.share == pytest.approx(1 / NUM_FINETUNED)


class TestState:
    def test_a_leased_study_runs_whatever_its_rows_say(self):
        assert after(5).document()["state"] == after(None).document()["state"] == "RUNNING"

    @pytest.mark.parametrize("state", [StudyState.RESOLVING, StudyState.RUNNING, StudyState.STOPPING])
    def test_an_active_study_without_a_lease_was_interrupted(self, state):
        spec, store = sample_spec(), MemoryStore(clock=ticking(START))
        run_sample(store, spec, stop_after=5)
        status = status_of(StudyView.of(store, spec.name), now=START, condition=StudyCondition(state=state))
        assert status.document()["state"] == "INTERRUPTED"
        assert status.running == ()
        assert status.left_s is None

    def test_the_store_says_in_which_state_a_study_is(self):
        status = after(5, state=StudyState.PAUSED)
        assert (status.document()["state"], status.running, status.left_s) == ("PAUSED", (), None)
        assert after(None, state=StudyState.FINISHED).document()["state"] == "FINISHED"

    def test_a_time_budget_ends_a_study_early(self):
        spec = sample_spec().model_copy(update={"time_budget_s": 60.0})
        store = MemoryStore()
        writer = store.create_study(spec)
        controller = StagedController(spec, spec.resolved.geometry, may_start=lambda fidelity: False)
        done = InlineDispatcher().run(controller, writer, MadeUpEvaluator())
        assert done.reason == "the time budget ended after 3 of 12 schedules"
        finished = StudyCondition(state=StudyState.FINISHED, reason=done.reason)
        status = status_of(StudyView.of(store, spec.name), now=START, condition=finished)
        assert counts(status)["fine-tuning"] == (1, 1, 0)
        assert status.document()["reason"] == done.reason

    def test_nothing_can_follow_a_failed_reference(self):
        class Broken(MadeUpEvaluator):
            def evaluate(self, trial):
                yield Ended(trial=trial.number, attempt=trial.attempt, state=TrialState.FAILED, reason="no loss")

        spec, store = sample_spec(), MemoryStore()
        writer = store.create_study(spec)
        with pytest.raises(StudyFailedError):
            InlineDispatcher().run(StagedController(spec, spec.resolved.geometry), writer, Broken())
        status = status_of(StudyView.of(store, spec.name), now=START)
        assert (status.failed.count, status.failed.last) == (1, "trial 0: no loss")


class TestWhatRuns:
    def test_a_training_says_how_far_it_is(self):
        view, clock = timed(2 + NUM_SCREENED)
        clock.now += 7
        (running,) = status_of(view, now=clock()).running
        assert (running.attempt, running.epochs_done, running.epochs) == (1, 0, 2)
        assert running.schedule.count(":") >= 1
        assert (running.metric, running.seconds) == (None, 7.0)

    def test_attempts_are_counted_with_their_reason(self):
        spec, store = sample_spec(), MemoryStore()
        writer = store.create_study(spec)
        asked = StagedController(spec, spec.resolved.geometry).ask()
        writer.claim(writer.add_trial(asked).number)
        writer.claim(0, retry=True, reason="attempt 1 failed: lost")
        status = status_of(StudyView.of(store, spec.name), now=START)
        assert (status.retried.count, status.retried.last) == (1, "trial 0: attempt 1 failed: lost")
        assert (status.failed.count, status.failed.last) == (0, None)
        assert status.running[0].attempt == 2


class TestHypervolume:
    def test_nothing_is_known_before_the_dense_model_is_measured(self):
        assert after(0).hypervolume is None
        assert after(1).hypervolume == 0.0

    def test_it_is_in_percent_of_the_area_of_a_perfect_model(self):
        spec, store = sample_spec(), MemoryStore()
        run_sample(store, spec)
        view = StudyView.of(store, spec.name)
        dense = view.front.reference
        area, cheapest_so_far = 0.0, dense.cost.macs
        for trial in sorted(view.front.points, key=lambda trial: -trial.metrics["val_top1"]):
            area += trial.metrics["val_top1"] * max(0, cheapest_so_far - trial.cost.macs)
            cheapest_so_far = min(cheapest_so_far, trial.cost.macs)
        assert view.hypervolume == pytest.approx(100 * area / dense.cost.macs)
        assert 0.0 < view.hypervolume < 100.0

    def test_it_does_not_fall_while_schedules_are_searched(self):
        spec, store, seen = sample_spec(), MemoryStore(), []

        def look(trial):
            if trial.fidelity is Fidelity.SUPERNET:
                seen.append(StudyView.of(store, spec.name).hypervolume)

        run_sample(store, spec, on_trial=look)
        assert seen == sorted(seen)
        assert seen[-1] > 0.0


class TestTimeLeft:
    def left(self, view, now):
        return status_of(view, now=now).left_s

    def test_nothing_is_known_before_anything_is_measured(self):
        view, clock = timed(0)
        assert self.left(view, clock()) is None

    def test_later_phases_go_at_the_speed_of_those_that_are_over(self):
        """Dense and elastic, 0.7 of the work, took 40 + 30 s."""
        view, clock = timed(2)
        assert self.left(view, clock()) == pytest.approx(30.0, rel=0.01)

    def test_the_phase_under_way_goes_on_as_it_went(self):
        """Of the search 11 of 22 s are over, and the other phases went at 100 s for all the work."""
        view, clock = timed(2 + 11)
        fine_tuning = 0.2 * (40 + 30 + 11) / (0.4 + 0.3 + 0.05)
        assert self.left(view, clock()) == pytest.approx(11 + fine_tuning, rel=0.01)
        assert self.left(view, clock() + 4) == pytest.approx(7 + fine_tuning, rel=0.01)
        assert self.left(view, clock() + 400) == pytest.approx(fine_tuning, rel=0.01)

    def test_it_comes_to_nothing(self):
        view, clock = timed(2 + NUM_SCREENED + NUM_TRAINED - 1)
        assert self.left(view, clock()) == pytest.approx(20.0)
        assert after(None).left_s == 0.0

    def test_trainings_that_were_taken_over_tell_nothing_of_the_speed(self):
        view, clock = timed(2, factor=0.0)
        assert self.left(view, clock()) is None

    def test_hours_in_which_nothing_ran_do_not_count(self):
        view, clock = timed(2 + 11)
        first = view.times.trials[0]
        earlier = TrialTimes(
            started_at=first.started_at - 36_000,
            ended_at=first.ended_at - 36_000,
            measured_at={step: at - 36_000 for step, at in first.measured_at.items()},
        )
        times = StudyTimes(created_at=START - 36_000, trials={**view.times.trials, 0: earlier})
        slept = StudyView(spec=view.spec, trials=view.trials, times=times)
        assert self.left(slept, clock()) == pytest.approx(self.left(view, clock()))

    def test_a_study_of_an_older_version_tells_only_of_its_last_phase(self):
        view, clock = timed(2 + 11, spec=sample_spec())
        assert self.left(view, clock()) is None
        view, clock = timed(2 + NUM_SCREENED + NUM_FINETUNED - 2, spec=sample_spec())
        assert self.left(view, clock()) == pytest.approx(40.0)

    def test_a_time_budget_is_a_limit(self):
        view, clock = timed(2, spec=planned(sample_spec(), time_budget_s=80.0))
        assert self.left(view, clock()) == pytest.approx(10.0)
        view, clock = timed(0, spec=planned(sample_spec(), time_budget_s=80.0))
        assert self.left(view, clock()) == pytest.approx(80.0)
        assert self.left(view, clock() + 100) is None, "it was resumed, and the budget began again"


def test_the_document_is_plain_data():
    document = after(30).document()
    assert json.loads(json.dumps(document)) == document
    assert set(document) >= {"study", "state", "phases", "running", "best", "front_size", "hypervolume", "left_s"}
    assert document["accuracy"] == "ok"
    assert after(30, spec=sample_spec(meaningful=False)).document()["accuracy"] == "not meaningful"
