"""Start a study: complete and name what was requested, and add it to the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sparsesearch.app.complete import complete
from sparsesearch.app.study_request import overridden, with_name
from sparsesearch.app.workspace import Workspace
from sparsesearch.errors import UserInputError
from sparsesearch.study.progress import Progress
from sparsesearch.study.protocols import StudyStore, StudyWriter
from sparsesearch.study.spec import StudySpec


def requested_study(document: Mapping[str, Any], workspace: Workspace, *, progress: Progress) -> StudySpec:
    """Complete a study document: data of the environment, a free name, the space and the trainings of the backbone.

    Args:
        document: Part of a `StudySpec` as plain data; see `complete`.
        workspace: Its store has the names that are taken.
        progress: Receives notes for the user.

    Raises:
        StudyExistsError: The document has a name, and it is taken.
        UserInputError: The document is invalid.
    """
    settings = workspace.settings
    base = {} if settings.data is None else {"data": {"source": settings.data}}
    named = with_name(overridden(base, document), taken=workspace.store.studies())
    return complete(named, progress=progress)


def start_study(document: Mapping[str, Any], workspace: Workspace, *, progress: Progress) -> StudyWriter:
    """Add a study to the store and open it, RESOLVING; see `requested_study` for the arguments and errors."""
    return workspace.store.create_study(requested_study(document, workspace, progress=progress))


@contextmanager
def discarded_if_invalid(store: StudyStore, name: str) -> Iterator[None]:
    """Delete a new study if the block finds that its input is invalid, so that the corrected one may have its name."""
    try:
        yield
    except UserInputError:
        if not any(trial.measurements for trial in store.trials(name)):
            store.delete_study(name)
        raise
