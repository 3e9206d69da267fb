"""Submit a study: add it to the queue of a service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparsesearch.app.study_request import overridden, with_name
from sparsesearch.app.validate import validate
from sparsesearch.app.workspace import Workspace
from sparsesearch.errors import SpecError, StudyExistsError
from sparsesearch.store.audit import Actor
from sparsesearch.study.spec import StudySpec

_TRIES = 20


def submit_study(document: Mapping[str, Any], workspace: Workspace, *, by: Actor, priority: int = 0) -> StudySpec:
    """Validate a document and add its study as QUEUED; nothing is opened, and torch is not loaded.

    Args:
        document: As in `validate`; without a name, it is named after its backbone and budget.
        workspace: Where the study is added.
        by: Who submits it, its owner.
        priority: Higher ones are run first.

    Raises:
        StudyExistsError: The document has a name, and it is taken.
        SpecError: There is no study of the name `warm_start`.
        UserInputError: As in `validate`.
    """
    settings = workspace.settings
    base = {} if settings.data is None else {"data": {"source": settings.data}}
    requested = overridden(base, {**document, "data": _as_mapping(document.get("data"))})
    for attempt in range(_TRIES):
        names = workspace.store.studies()
        spec = validate(with_name(requested, taken=names))
        if spec.warm_start is not None and spec.warm_start not in names:
            raise SpecError(f"warm_start: no study {spec.warm_start!r}; list them with: sparsesearch studies")
        try:
            workspace.store.queue.submit(spec, by=by, priority=priority)
        except StudyExistsError:  # somebody else took the name in between
            if requested.get("name") is not None or attempt == _TRIES - 1:
                raise
        else:
            return spec
    raise AssertionError("the last attempt returns or raises")


def _as_mapping(data: object) -> object:
    return {"source": data} if isinstance(data, str) else data
