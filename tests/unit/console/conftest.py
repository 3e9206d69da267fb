"""Studies to be told of, without torch."""

from __future__ import annotations

import pytest
from sample_study import DEIT_SMALL, MadeUpEvaluator, run_sample, sample_spec, ticking

from sparsesearch.analysis.view import StudyView
from sparsesearch.console.watch import StudyWatch
from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.search.controller import StagedController
from sparsesearch.store.memory import MemoryStore

START = 1_780_000_000.0
WORK = {"dense": 0.4, "supernet_training": 0.3, "screen": 0.1, "finetune": 0.2}


@pytest.fixture
def make_view():
    """The sample study after so many trials."""

    def make(num_trials=None, **changes):
        spec = sample_spec(**changes)
        spec = spec.model_copy(update={"resolved": spec.resolved.model_copy(update={"planned_work": WORK})})
        store = MemoryStore(clock=ticking(START))
        run_sample(store, spec, stop_after=num_trials)
        return StudyView.of(store, spec.name)

    return make


@pytest.fixture
def run_reported():
    """Run the sample study as `run` does, telling a reporter; returns the trials."""

    def run(reporter, **changes):
        clock = ticking(START)
        spec = sample_spec(**changes)
        store = MemoryStore(clock=clock)
        writer = store.create_study(spec)
        reporter.follow(StudyWatch(StudyView.of(store, spec.name), clock=clock))
        dispatcher = InlineDispatcher(observer=reporter)
        dispatcher.run(StagedController(spec, DEIT_SMALL), writer, MadeUpEvaluator())
        return writer.trials()

    return run
