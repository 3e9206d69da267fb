"""Queue a study again that was paused, has failed, or lost its process."""

from __future__ import annotations

from contextlib import suppress

from sparsesearch.app.retry_trials import retry_trials
from sparsesearch.errors import StudyStateError
from sparsesearch.store.audit import Actor
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.state import StudyCondition, StudyState


def resume_queued(store: SqlStore, study: str, *, by: Actor) -> StudyCondition:
    """Queue a study again; if it has failed, its failed trials run again from their last checkpoints.

    Raises:
        StudyNotFoundError: There is no such study.
        StudyStateError: It runs, or is over.
    """
    if store.condition(study).state is StudyState.FAILED:
        with suppress(StudyStateError):  # it failed without a failed trial
            retry_trials(store, study)
    return store.queue.enqueue(study, by=by)
