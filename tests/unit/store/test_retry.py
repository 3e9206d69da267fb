from contextlib import closing

import pytest
from sample_study import DEIT_SMALL, MadeUpEvaluator, sample_spec

from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.errors import StudyBusyError, StudyStateError
from sparsesearch.search.controller import StagedController
from sparsesearch.store.audit import Actor
from sparsesearch.store.sql import open_store
from sparsesearch.study.state import StopRequest, StudyState
from sparsesearch.study.trial import Fidelity, TrialState


@pytest.fixture
def store(tmp_path):
    opened = open_store(f"sqlite:///{tmp_path}/studies.db")
    yield opened
    opened.close()


class Failing(MadeUpEvaluator):
    """Fails the first two fine-tunings after their first epoch."""

    def __init__(self):
        super().__init__()
        self.left = 2

    def evaluate(self, trial):
        for event in super().evaluate(trial):
            yield event
            if trial.fidelity is Fidelity.FINETUNE and self.left:
                self.left -= 1
                raise RuntimeError("no luck")


@pytest.fixture
def study(store):
    """A finished study with two failed trials."""
    spec = sample_spec()
    with closing(store.create_study(spec)) as writer:
        InlineDispatcher().run(StagedController(spec, DEIT_SMALL), writer, Failing())
        writer.set_state(StudyState.FINISHED)
    return spec.name


def failed(store, study):
    return [trial for trial in store.trials(study) if trial.state is TrialState.FAILED]


def test_failed_trials_run_again_at_another_attempt(store, study):
    before = failed(store, study)
    retried = store.queue.retry(study)
    assert [trial.number for trial in retried] == [trial.number for trial in before]
    for was, now in zip(before, retried, strict=True):
        assert (now.state, now.attempt) == (TrialState.RUNNING, was.attempt + 1)
        assert now.measurements == was.measurements
        assert now.reason == f"retried after: {was.reason}"
    assert [store.trials(study)[trial.number] for trial in retried] == retried
    found = store.condition(study)
    assert (found.state, found.reason) == (StudyState.PAUSED, "2 failed trials to run again")
    with pytest.raises(StudyStateError, match="has no failed trials"):
        store.queue.retry(study)
    spec = store.spec(study)
    with closing(store.open_study(study, resume=True)) as writer:
        InlineDispatcher().run(StagedController(spec, DEIT_SMALL), writer, MadeUpEvaluator())
    assert all(trial.state.is_final for trial in store.trials(study))
    assert not failed(store, study)


def test_one_of_them(store, study):
    first, second = failed(store, study)
    with pytest.raises(StudyStateError, match="has no failed trial 0; see: sparsesearch trials"):
        store.queue.retry(study, number=0)
    assert [trial.number for trial in store.queue.retry(study, number=second.number)] == [second.number]
    assert failed(store, study) == [first]


def test_a_cancelled_study_stays_as_it_is(store, study):
    with closing(store.open_study(study)) as writer:
        writer.set_state(StudyState.PAUSED)
    store.request(study, StopRequest.CANCEL)
    with pytest.raises(StudyStateError, match="was cancelled"):
        store.queue.retry(study)
    assert len(failed(store, study)) == 2


def test_resuming_a_failed_study_retries_them_in_one_transaction(store):
    by = Actor("ann")
    store.queue.submit(sample_spec("other"), by=by)
    with closing(store.open_claimed("other", store.queue.claim().lease)) as writer:
        InlineDispatcher().run(StagedController(writer.spec, DEIT_SMALL), writer, Failing())
        writer.set_state(StudyState.FAILED, reason="no luck")
    before = failed(store, "other")
    last = store.last_change("other").number
    assert store.queue.enqueue("other", by=by).state is StudyState.QUEUED
    assert failed(store, "other") == []
    assert [trial.number for _, trial in store.trials_changed("other", after=last, limit=9)] == [
        trial.number for trial in before
    ]
    assert [entry.action for entry in store.queue.audit(what="other")] == ["resume", "submit"]


def test_nothing_is_retried_of_a_study_that_cannot_be_resumed(store, study):
    before = failed(store, study)
    with pytest.raises(StudyStateError, match="nothing to resume"):
        store.queue.enqueue(study, by=Actor("ann"))
    with closing(store.open_study(study)), pytest.raises(StudyBusyError):
        store.queue.retry(study)
    assert failed(store, study) == before
