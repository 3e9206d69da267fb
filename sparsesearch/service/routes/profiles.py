"""Latency profiles: list, show, upload and delete them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query
from pydantic import BaseModel

from sparsesearch.latency.profile.document import parse_profile
from sparsesearch.service.access import Admin, Reader, Submitter
from sparsesearch.service.parts import WorkspaceOf
from sparsesearch.service.problems import responses

router = APIRouter(tags=["profiles"])

ProfileName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]


class ProfileNames(BaseModel):
    """The latency profiles of the server."""

    profiles: list[str]


@router.get("/profiles", responses=responses())
def list_profiles(_: Reader, workspace: WorkspaceOf) -> ProfileNames:
    """List the names of latency profiles."""
    return ProfileNames(profiles=list(workspace.store.profiles.names()))


@router.get("/profiles/{name}", responses=responses(404))
def show(name: ProfileName, _: Reader, workspace: WorkspaceOf) -> dict[str, Any]:
    """Show a latency profile: what `sparsesearch profile export` writes."""
    return workspace.store.profiles.get(name).model_dump(mode="json")


@router.put("/profiles/{name}", status_code=204, responses=responses(409))
def upload(
    name: ProfileName,
    document: Annotated[dict[str, Any], Body()],
    _: Submitter,
    workspace: WorkspaceOf,
    replace: Annotated[bool, Query(description="Whether to replace a profile of this name.")] = False,
) -> None:
    """Upload a latency profile that `sparsesearch profile` wrote on another machine."""
    workspace.store.profiles.save(name, parse_profile(document, what="the profile"), replace=replace)


@router.delete("/profiles/{name}", status_code=204, responses=responses(404))
def delete(name: ProfileName, _: Admin, workspace: WorkspaceOf) -> None:
    """Delete a latency profile."""
    workspace.store.profiles.delete(name)
