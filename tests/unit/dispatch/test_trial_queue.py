"""Who is told of what, and when."""

import pytest
from sample_study import DEIT_SMALL, MadeUpEvaluator, sample_spec

from sparsesearch.dispatch.trial_queue import Roster
from sparsesearch.search.controller import StagedController
from sparsesearch.store.memory import MemoryStore
from sparsesearch.study.events import Ended
from sparsesearch.study.trial import TrialState

SPEC = sample_spec()


@pytest.fixture
def ledger():
    return MemoryStore().create_study(SPEC)


@pytest.fixture
def seen():
    return []


@pytest.fixture
def roster(ledger, seen):
    def on_progress(trial):
        assert trial in ledger.trials(), "people are told what is written"
        seen.append((trial.attempt, trial.epochs_done))

    controller = StagedController(SPEC, DEIT_SMALL)
    return Roster(controller, ledger, max_retries=1, on_trial=lambda trial: None, on_progress=on_progress)


def test_claims_and_measurements_are_told_once(roster, seen):
    trial = roster.take(training=True)
    for event in MadeUpEvaluator().evaluate(trial):
        roster.record(event)
        if not isinstance(event, Ended):
            roster.record(event)
    assert seen == [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4)]


def test_another_attempt_is_told_and_a_last_failure_is_not(roster, seen, ledger):
    trial = roster.take(training=True)
    roster.note_failure(trial.number, attempt=1, reason="lost")
    roster.note_failure(trial.number, attempt=1, reason="lost")
    assert seen == [(1, 0), (2, 0)]
    roster.note_failure(trial.number, attempt=2, reason="lost again")
    assert seen == [(1, 0), (2, 0)]
    assert ledger.trials()[0].state is TrialState.FAILED


def test_what_is_retaken_is_told_again(roster, seen):
    trial = roster.take(training=True)
    roster.note_failure(trial.number, attempt=1, reason="lost")
    roster.release(trial.number)
    assert roster.take(training=True).attempt == 2
    assert seen == [(1, 0), (2, 0), (2, 0)]
