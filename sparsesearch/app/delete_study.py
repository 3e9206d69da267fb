"""Delete a study with its checkpoints."""

from __future__ import annotations

from sparsesearch.app.storage import storage_of
from sparsesearch.app.workspace import Workspace
from sparsesearch.store.audit import Actor
from sparsesearch.training.study_folder import remove_older_files, remove_study_folder


def delete_study(workspace: Workspace, study: str, *, by: Actor | None = None) -> None:
    """Delete a study, its trials and its checkpoints; shared trainings remain in the cache.

    Args:
        workspace: Where it is.
        study: Name of the study.
        by: Who deletes it, for the audit trail of a service.

    Raises:
        StudyNotFoundError: There is no study of that name.
        StudyBusyError: A process runs it.
    """
    storage = storage_of(workspace.store.spec(study), workspace.settings)
    uid, trials = workspace.store.uid(study), workspace.store.trials(study)
    if by is None:
        workspace.store.delete_study(study)
    else:
        workspace.store.queue.delete(study, by=by)
    remove_study_folder(storage, study, uid)
    remove_older_files(storage, study, [trial.checkpoint for trial in trials if trial.checkpoint is not None])
