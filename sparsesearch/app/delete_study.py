"""Delete a study with its checkpoints."""

from __future__ import annotations

from sparsesearch.app.storage import storage_of
from sparsesearch.app.workspace import Workspace
from sparsesearch.training.study_folder import remove_older_files, remove_study_folder


def delete_study(workspace: Workspace, study: str) -> None:
    """Delete a study, its trials and its checkpoints; shared trainings remain in the cache.

    Raises:
        StudyNotFoundError: There is no study of that name.
        StudyBusyError: A process runs it.
    """
    storage = storage_of(workspace.store.spec(study), workspace.settings)
    uid, trials = workspace.store.uid(study), workspace.store.trials(study)
    workspace.store.delete_study(study)
    remove_study_folder(storage, study, uid)
    remove_older_files(storage, study, [trial.checkpoint for trial in trials if trial.checkpoint is not None])
