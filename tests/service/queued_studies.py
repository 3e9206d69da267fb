"""Studies of a service in every state, written by the store: nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from sample_study import DEIT_SMALL, MadeUpEvaluator, sample_spec

from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.search.controller import StagedController
from sparsesearch.store.audit import Actor
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.events import Event, Measured
from sparsesearch.study.hits import Hits
from sparsesearch.study.protocols import Controller, StudyWriter
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StopRequest, StudyState
from sparsesearch.study.trial import Trial

DOCUMENT: dict[str, Any] = {"backbone": "deit_pico", "budget": "60%"}
"""The shortest study document."""


def begun(store: SqlStore, spec: StudySpec, *, by: str = "ann") -> StudyWriter:
    """A study that was submitted, and taken from the queue by a process."""
    store.queue.submit(spec, by=Actor(by))
    return taken(store, spec.name)


def taken(store: SqlStore, name: str) -> StudyWriter:
    """Take a study from the queue, as a controller does, which has to be the next one."""
    claim = store.queue.claim()
    assert claim is not None
    assert claim.study == name
    return store.open_claimed(name, claim.lease)


def finished(store: SqlStore, name: str = "sample", *, by: str = "ann", **changes: Any) -> None:
    """A study with results, which are made up."""
    spec = sample_spec(name, **changes)
    writer = begun(store, spec, by=by)
    controller: Controller = StagedController(spec, DEIT_SMALL)
    InlineDispatcher().run(controller, writer, MadeUpEvaluator())
    writer.set_state(StudyState.FINISHED)
    writer.close()


class OddEvaluator(MadeUpEvaluator):
    """Losses that are no numbers, as of trainings that went wrong; evaluations say which images are right."""

    def evaluate(self, trial: Trial) -> Iterator[Event]:
        for event in super().evaluate(trial):
            if isinstance(event, Measured):
                found = event.measurement
                metrics = {**found.metrics, "val_loss": math.nan, "grad_norm": math.inf, "low": -math.inf}
                hits = Hits.of([trial.number % 2 == 0, True, False], images="screen")
                event = event.model_copy(
                    update={
                        "measurement": found.model_copy(update={"metrics": metrics}),
                        "hits": None if trial.fidelity.is_training else hits,
                    }
                )
            yield event


def bring(store: SqlStore, name: str, state: StudyState) -> StudyWriter | None:
    """Bring a submitted study into a state; the process that runs it, in states in which there is one."""
    if state is StudyState.QUEUED:
        return None
    writer = taken(store, name)
    if state is StudyState.STOPPING:
        writer.set_state(StudyState.RUNNING)
        store.queue.request(name, StopRequest.PAUSE, by=Actor("ann"))
    else:
        writer.set_state(state, reason=None if state.is_active else "because")
    if state.is_active:
        return writer
    writer.close()
    return None


def lost(store: SqlStore, writer: StudyWriter) -> None:
    """Let the process of a study lose its lease, as if it was killed a while ago."""
    with store._database.writing() as connection:
        row, _, _ = store.found(connection, writer.spec.name)
        store.end_lease(connection, row["id"])
