"""Take back that trials of a study have failed, so that they run again."""

from __future__ import annotations

from contextlib import closing

from sparsesearch.errors import StudyStateError
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.state import StudyState
from sparsesearch.study.trial import Trial, TrialState
from sparsesearch.text import counted


def retry_trials(store: SqlStore, study: str, *, number: int | None = None) -> list[Trial]:
    """Let failed trials run again from their last checkpoints; the study is PAUSED, until it is resumed.

    Args:
        store: The store of the study.
        study: Its name.
        number: The trial; None for all that have failed.

    Returns:
        The trials.

    Raises:
        StudyNotFoundError: There is no such study.
        StudyBusyError: A process runs it.
        StudyStateError: It was cancelled, or no such trial has failed.
    """
    with closing(store.open_study(study)) as writer:
        if store.condition(study).state is StudyState.CANCELLED:
            raise StudyStateError(f"study {study!r} was cancelled, so its trials cannot run again")
        failed = [trial for trial in writer.trials({TrialState.FAILED}) if number in (None, trial.number)]
        if not failed:
            which = "no failed trials" if number is None else f"no failed trial {number}"
            raise StudyStateError(f"study {study!r} has {which}; see: sparsesearch trials {study}")
        retried = [writer.retry(trial.number, reason=f"retried after: {trial.reason}") for trial in failed]
        writer.set_state(StudyState.PAUSED, reason=f"{counted(len(retried), 'failed trial')} to run again")
    return retried
