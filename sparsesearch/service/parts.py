"""What routes take from the application."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request

from sparsesearch.app.workspace import Workspace
from sparsesearch.service.options import ServiceOptions
from sparsesearch.service.remembered import Remembered
from sparsesearch.study.spec import NAME_PATTERN


def workspace_of(request: Request) -> Workspace:
    """Where studies are."""
    workspace: Workspace = request.app.state.workspace
    return workspace


def options_of(request: Request) -> ServiceOptions:
    """How the service is set up."""
    options: ServiceOptions = request.app.state.options
    return options


def remembered_of(request: Request) -> Remembered:
    """Answers that are kept."""
    remembered: Remembered = request.app.state.remembered
    return remembered


RememberedOf = Annotated[Remembered, Depends(remembered_of)]
WorkspaceOf = Annotated[Workspace, Depends(workspace_of)]
OptionsOf = Annotated[ServiceOptions, Depends(options_of)]
StudyName = Annotated[str, Path(pattern=NAME_PATTERN, max_length=80, description="Name of a study.")]
