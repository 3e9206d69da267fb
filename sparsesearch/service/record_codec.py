"""The questions of `StudyRecords` and their answers as JSON, for a server and a client of the same version.

Numbers that are not finite are written as Python does, `NaN` and `Infinity`.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from sparsesearch.study.digest import FrontNumbers, Span, StudyDigest, StudySummary, TrialRow
from sparsesearch.study.hits import Hits
from sparsesearch.study.protocols import StudyRecords
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StudyCondition
from sparsesearch.study.trial import Axis, Fidelity, StudyTimes, Trial, TrialState

What = Literal["spec", "uid", "trials", "times", "hits", "condition", "digest", "rows", "front", "spans"]

ANSWERS: dict[str, TypeAdapter[Any]] = {
    "spec": TypeAdapter(StudySpec),
    "uid": TypeAdapter(str),
    "trials": TypeAdapter(list[Trial]),
    "times": TypeAdapter(StudyTimes),
    "hits": TypeAdapter(dict[int, Hits]),
    "condition": TypeAdapter(StudyCondition),
    "digest": TypeAdapter(StudyDigest),
    "rows": TypeAdapter(list[TrialRow]),
    "front": TypeAdapter(FrontNumbers),
    "spans": TypeAdapter(list[Span]),
    "summaries": TypeAdapter(list[StudySummary]),
}


MOST_TRIALS = 5000
"""Trials of one answer."""

Number = Annotated[int, Field(ge=0, lt=2**31)]


class Question(BaseModel):
    """A call of a method of `StudyRecords` about one study, with its arguments."""

    model_config = ConfigDict(extra="forbid")

    what: What
    states: list[TrialState] | None = None
    numbers: list[Number] | None = Field(default=None, max_length=30_000)
    offset: Number = 0
    limit: Annotated[int, Field(ge=0, le=MOST_TRIALS)] = MOST_TRIALS
    fidelity: Fidelity | None = None
    axis: Axis | None = None


def answer(records: StudyRecords, study: str, question: Question) -> str:
    """Answer a question."""
    match question.what:
        case "trials":
            value: object = records.trials(
                study,
                states=question.states,
                numbers=question.numbers,
                offset=question.offset,
                limit=question.limit,
            )
        case "times":
            value = records.times(study, numbers=question.numbers)
        case "hits":
            value = records.hits(study, question.numbers or [])
        case "front":
            value = records.front(study, question.fidelity or Fidelity.FINETUNE, question.axis or "macs")
        case "spans":
            value = records.spans(study, question.fidelity or Fidelity.FINETUNE)
        case _:
            value = getattr(records, question.what)(study)
    return _text(question.what, value)


def summaries_text(records: StudyRecords, newest: int | None) -> str:
    """The summaries of studies."""
    return _text("summaries", records.summaries(newest=newest))


def parsed(what: str, text: str) -> Any:
    """The value of an answer. Raises `ValueError` if it is none of this version."""
    return ANSWERS[what].validate_python(json.loads(text))


def _text(what: str, value: object) -> str:
    return json.dumps(ANSWERS[what].dump_python(list(value) if _is_sequence(value) else value, mode="json"))  # type: ignore[call-overload]


def _is_sequence(value: object) -> bool:
    return isinstance(value, list | tuple) and not hasattr(value, "_fields")
