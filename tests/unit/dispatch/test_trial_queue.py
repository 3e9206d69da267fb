"""Who is told of what, and when."""

import pytest
from observing import Telling
from sample_study import DEIT_SMALL, MadeUpEvaluator, sample_spec

from sparsesearch.dispatch.trial_queue import TrialQueue
from sparsesearch.errors import InfrastructureError
from sparsesearch.search.controller import StagedController
from sparsesearch.store.memory import MemoryStore
from sparsesearch.study.events import Ended
from sparsesearch.study.stop import StopToken
from sparsesearch.study.trial import TrialState

SPEC = sample_spec()


@pytest.fixture
def writer():
    return MemoryStore().create_study(SPEC)


@pytest.fixture
def seen():
    return []


@pytest.fixture
def queue(writer, seen):
    def on_progress(trial):
        assert trial in writer.trials(), "people are told what is written"
        seen.append((trial.attempt, trial.epochs_done))

    controller = StagedController(SPEC, DEIT_SMALL)
    return TrialQueue(controller, writer, max_retries=1, observer=Telling(on_progress=on_progress), stop=StopToken())


def test_claims_and_measurements_are_told_once(queue, seen):
    trial = queue.take(training=True)
    for event in MadeUpEvaluator().evaluate(trial):
        queue.record(event)
        if not isinstance(event, Ended):
            queue.record(event)
    assert seen == [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4)]


def test_another_attempt_is_told_and_a_last_failure_is_not(queue, seen, writer):
    trial = queue.take(training=True)
    queue.note_failure(trial.number, attempt=1, reason="lost")
    queue.note_failure(trial.number, attempt=1, reason="lost")
    assert seen == [(1, 0), (2, 0)]
    queue.note_failure(trial.number, attempt=2, reason="lost again")
    assert seen == [(1, 0), (2, 0)]
    assert writer.trials()[0].state is TrialState.FAILED


def test_a_fault_is_no_failure_and_its_trial_is_taken_again(queue, seen, writer):
    trial = queue.take(training=True)
    queue.note_failure(trial.number, attempt=1, reason="lost")
    fault = InfrastructureError("the disk is full")
    queue.note_fault(trial.number, attempt=2, fault=fault)
    assert queue.upcoming() is None
    queue.release(trial.number)
    assert queue.upcoming() is None, "nothing is taken while there is a fault"
    with pytest.raises(InfrastructureError, match="the disk is full"):
        queue.wait_for_fault()
    again = queue.take(training=True)
    assert (again.number, again.attempt) == (trial.number, 2)
    queue.note_fault(trial.number, attempt=2, fault=fault, is_lost=True)
    assert writer.trials()[0].attempt == 3, "what a process that cannot be reached still does must not count"
    queue.lose_all(fault)
    assert writer.trials()[0].attempt == 4
    assert writer.trials()[0].state is TrialState.RUNNING


def test_evaluations_are_taken_together_but_for_those_that_failed_before(writer):
    spec = SPEC.model_copy(update={"baselines": False})
    queue = TrialQueue(StagedController(spec, DEIT_SMALL), writer, max_retries=1, observer=Telling(), stop=StopToken())
    assert queue.take_evaluations(3) == [], "the dense training comes first"
    for _ in range(2):
        trial = queue.take(training=True)
        for event in MadeUpEvaluator().evaluate(trial):
            queue.record(event)
        queue.release(trial.number)
    first = queue.take_evaluations(3)
    assert [trial.number for trial in first] == [2, 3, 4]
    assert [len(trial.followed_by) for trial in first] == [2, 1, 0]
    for trial in first[:2]:
        queue.note_failure(trial.number, attempt=1, reason="lost")
    for trial in first:
        queue.release(trial.number)
    assert [[trial.number for trial in queue.take_evaluations(3)] for _ in range(3)] == [[4], [3], [2]]
    assert [trial.number for trial in queue.take_evaluations(3)] == [5, 6, 7]


def test_what_is_retaken_is_told_again(queue, seen):
    trial = queue.take(training=True)
    queue.note_failure(trial.number, attempt=1, reason="lost")
    queue.release(trial.number)
    assert queue.take(training=True).attempt == 2
    assert seen == [(1, 0), (2, 0), (2, 0)]
