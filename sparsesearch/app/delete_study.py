"""Delete a study with its checkpoints."""

from __future__ import annotations

import shutil

from sparsesearch.app.storage import storage_of
from sparsesearch.app.workspace import Workspace


def delete_study(workspace: Workspace, study: str) -> None:
    """Delete a study, its trials and its checkpoints; shared trainings remain in the cache.

    Raises:
        StudyNotFoundError: There is no study of that name.
        StudyBusyError: A process runs it.
    """
    folder = storage_of(workspace.store.spec(study), workspace.settings) / study
    workspace.store.delete_study(study)
    if folder.is_dir():
        shutil.rmtree(folder)
