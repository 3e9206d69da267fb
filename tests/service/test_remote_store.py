"""The store of a service is to its readers what its database is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from queued_studies import OddEvaluator, begun, bring, finished
from sample_study import DEIT_SMALL, sample_spec
from served import Api, serving

from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.errors import (
    SparseSearchError,
    StudyBusyError,
    StudyNotFoundError,
    StudyStateError,
    UserInputError,
)
from sparsesearch.search.controller import StagedController
from sparsesearch.service.client import ServiceClient
from sparsesearch.service.remote_store import RemoteStore
from sparsesearch.store.audit import Actor
from sparsesearch.study.progress import WorkProgress
from sparsesearch.study.protocols import Controller, StudyRecords
from sparsesearch.study.state import StopRequest, StudyState
from sparsesearch.study.trial import Fidelity, TrialState


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, RemoteStore]]:
    """A service with a study `odd` that runs and has odd numbers, one with results, a failed and a queued one."""
    api = Api(tmp_path_factory.mktemp("api"))
    finished(api.store)
    writer = begun(api.store, sample_spec("odd", evaluations=20, finalists=4))
    controller: Controller = StagedController(writer.spec, DEIT_SMALL)
    InlineDispatcher().run(controller, writer, OddEvaluator())
    writer.show_work([WorkProgress(label="fine-tuning, epoch 1 of 2", done=3, total=None, trial=2, images_per_s=1e6)])
    name = api.submit(name="failed")
    bring(api.store, name, StudyState.FAILED)
    api.submit(name="queued")
    with serving(api.app) as address:
        yield api, RemoteStore(ServiceClient(address, api.secrets["rita"]))


QUESTIONS: dict[str, Callable[[StudyRecords, str], Any]] = {
    "spec": lambda store, name: store.spec(name),
    "uid": lambda store, name: store.uid(name),
    "all trials": lambda store, name: store.trials(name),
    "trials in states": lambda store, name: store.trials(name, states={TrialState.REFERENCE, TrialState.RUNNING}),
    "trials in no state": lambda store, name: store.trials(name, states=[]),
    "trials by number": lambda store, name: store.trials(name, numbers={3, 1, 999}),
    "no trials": lambda store, name: store.trials(name, numbers=[]),
    "a page of trials": lambda store, name: store.trials(name, offset=2, limit=3),
    "a page past the end": lambda store, name: store.trials(name, offset=1000, limit=3),
    "an empty page": lambda store, name: store.trials(name, limit=0),
    "times": lambda store, name: store.times(name),
    "some times": lambda store, name: store.times(name, numbers=[0, 2]),
    "no times": lambda store, name: store.times(name, numbers=[]),
    "hits": lambda store, name: store.hits(name, range(30)),
    "no hits": lambda store, name: store.hits(name, []),
    "condition": lambda store, name: store.condition(name),
    "digest": lambda store, name: store.digest(name),
    "rows": lambda store, name: store.rows(name),
    **{
        f"front {fidelity} {axis}": lambda store, name, fidelity=fidelity, axis=axis: store.front(name, fidelity, axis)
        for fidelity in (Fidelity.FINETUNE, Fidelity.SUPERNET)
        for axis in ("macs", "ms")
    },
    "spans": lambda store, name: store.spans(name, Fidelity.SUPERNET),
}


@pytest.mark.parametrize("name", ["odd", "sample", "failed", "queued"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_are_those_of_the_database(odd: tuple[Api, RemoteStore], question: str, name: str) -> None:
    api, remote = odd
    here, there = (QUESTIONS[question](store, name) for store in (api.store, remote))
    assert same(here) == same(there)
    if name == "odd" and question in ("all trials", "hits", "condition", "rows"):
        assert here, "it says something"


def test_odd_numbers_survive(odd: tuple[Api, RemoteStore]) -> None:
    text = repr(odd[1].trials("odd"))
    for odd_number in ("'val_loss': nan", "'grad_norm': inf", "'low': -inf"):
        assert odd_number in text


@pytest.mark.parametrize("newest", [None, 1, 3, 100])
def test_lists_of_studies(odd: tuple[Api, RemoteStore], newest: int | None) -> None:
    api, remote = odd
    assert same(api.store.summaries(newest=newest)) == same(remote.summaries(newest=newest))
    assert list(remote.studies()) == list(api.store.studies()) == ["sample", "odd", "failed", "queued"]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_study_that_does_not_exist(odd: tuple[Api, RemoteStore], question: str) -> None:
    for name in ("nothing", "no such name", "../audit", "é"):
        with pytest.raises((StudyNotFoundError, UserInputError)):
            QUESTIONS[question](odd[1], name)
    with pytest.raises(StudyNotFoundError, match=r"^no study 'nothing'$"):
        QUESTIONS[question](odd[1], "nothing")


def same(value: Any) -> str:
    """A text that is equal for values that are equal, also where they are no numbers."""
    if isinstance(value, dict):
        return repr(sorted(value.items()))
    return repr(list(value) if isinstance(value, list | tuple) and not hasattr(value, "_fields") else value)


class TestChanges:
    @pytest.fixture
    def store(self, api: Api, address: str) -> RemoteStore:
        return RemoteStore(ServiceClient(address, api.secrets["ann"]))

    def test_they_are_made_as_in_a_database(self, api: Api, store: RemoteStore) -> None:
        api.submit(name="mine")
        for request, state in ((StopRequest.STOP, "PAUSED"), (StopRequest.PAUSE, "PAUSED")):
            assert store.request("mine", request).state == state
        assert store.resume("mine").state is StudyState.QUEUED
        assert store.request("mine", StopRequest.CANCEL) == api.store.condition("mine")
        with pytest.raises(StudyStateError, match="study 'mine' is cancelled, so there is nothing to resume"):
            store.resume("mine")
        store.delete_study("mine")
        assert api.store.studies() == []

    def test_errors_have_their_classes(self, api: Api, store: RemoteStore) -> None:
        api.submit("ben", name="of-ben")
        api.submit(name="mine")
        kept = []
        cases: list[tuple[Callable[[], Any], type[SparseSearchError], str]] = [
            (lambda: store.delete_study("nothing"), StudyNotFoundError, "no study 'nothing'"),
            (lambda: store.delete_study("of-ben"), UserInputError, "study 'of-ben' belongs to 'ben'"),
            (lambda: store.request("of-ben", StopRequest.CANCEL), UserInputError, "needs the scope admin"),
        ]
        for call, kind, said in cases:
            with pytest.raises(kind, match=said) as error:
                call()
            assert type(error.value) is kind
        api.store.queue.delete("of-ben", by=Actor("ben"))
        kept.append(bring(api.store, "mine", StudyState.RUNNING))
        with pytest.raises(StudyBusyError, match="study 'mine' is being run by"):
            store.delete_study("mine")
