"""Latency profiles: list, show, upload and delete them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Path, Query
from pydantic import BaseModel

from sparsesearch.latency.profile.document import Profile, parse_profile
from sparsesearch.service.access import Admin, Reader, Submitter, actor, check_scope
from sparsesearch.service.parts import WorkspaceOf
from sparsesearch.service.plain_data import check_plain
from sparsesearch.service.problems import responses
from sparsesearch.study.access import Scope

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
    return _stored(name, workspace).model_dump(mode="json")


@router.put("/profiles/{name}", status_code=204, responses=responses(409))
def upload(
    name: ProfileName,
    document: Annotated[dict[str, Any], Body()],
    token: Submitter,
    workspace: WorkspaceOf,
    replace: Annotated[bool, Query(description="Whether to replace a profile of this name.")] = False,
) -> None:
    """Upload a latency profile that `sparsesearch profile` wrote on another machine.

    Everybody's studies may use it, so that replacing another one needs the scope admin.
    """
    check_plain(document, what="profile")
    profile, store = parse_profile(document, what="the profile"), workspace.store.profiles
    if name in store.names() and store.get(name) != profile:
        if not replace:
            raise HTTPException(409, f"profile {name!r} already exists; choose another name, or add ?replace=true")
        check_scope(token, Scope.ADMIN)
    store.save(name, profile, replace=replace, by=actor(token))


@router.delete("/profiles/{name}", status_code=204, responses=responses(404))
def delete(name: ProfileName, token: Admin, workspace: WorkspaceOf) -> None:
    """Delete a latency profile."""
    _stored(name, workspace)
    workspace.store.profiles.delete(name, by=actor(token))


def _stored(name: str, workspace: WorkspaceOf) -> Profile:
    """A profile of the database, whose place is for the operator."""
    if name not in workspace.store.profiles.names():
        raise HTTPException(404, f"no profile {name!r}; upload one with PUT /api/v1/profiles/{name}")
    return workspace.store.profiles.get(name)
