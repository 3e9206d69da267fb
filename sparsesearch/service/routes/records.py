"""What `sparsesearch --server` reads: the records of a study as the database has them, for a client of this version."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response
from pydantic import BaseModel, ConfigDict, Field

from sparsesearch.service.access import Reader
from sparsesearch.service.parts import StudyName, WorkspaceOf
from sparsesearch.service.problems import responses
from sparsesearch.service.record_codec import Question, answer, summaries_text

router = APIRouter(tags=["client"])


class NewestStudies(BaseModel):
    """Which studies are asked for."""

    model_config = ConfigDict(extra="forbid")

    newest: int | None = Field(default=None, ge=1, le=100_000)


@router.post("/studies/{name}/records", responses=responses(404), response_class=Response, include_in_schema=False)
def records(name: StudyName, question: Annotated[Question, Body()], _: Reader, workspace: WorkspaceOf) -> Response:
    """One question of `StudyRecords`, and its answer as JSON."""
    return Response(answer(workspace.store, name, question), media_type="application/json")


@router.post("/records", responses=responses(), response_class=Response, include_in_schema=False)
def all_records(question: NewestStudies, _: Reader, workspace: WorkspaceOf) -> Response:
    """The summaries of studies."""
    return Response(summaries_text(workspace.store, question.newest), media_type="application/json")
