"""What drivers and workers tell each other, as JSON: a job out, reports back.

Numbers that JSON lacks (NaN, the infinities) are written as Python writes them.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from sparsesearch import errors
from sparsesearch.errors import UserInputError
from sparsesearch.evaluate.portable import PortableEvaluator
from sparsesearch.study.events import Event
from sparsesearch.study.trial import Trial
from sparsesearch.value import Value


class _Message(Value):
    def to_json(self) -> str:
        """The message as text."""
        return json.dumps(self.model_dump())


class Job(_Message):
    """A trial to work on.

    Attributes:
        trial: Claimed, as its record stands.
        evaluator: What turns it into events.
        threads: Threads the worker may compute with.
    """

    trial: Trial
    evaluator: PortableEvaluator
    threads: int = Field(ge=1)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """What `to_json` wrote."""
        return cls.model_validate(json.loads(text))


class Happened(_Message):
    """The trial went on."""

    kind: Literal["happened"] = "happened"
    event: Event


class Failed(_Message):
    """The trial could not go on; the worker should not be used again."""

    kind: Literal["failed"] = "failed"
    reason: str


class Refused(_Message):
    """The trial met an error that every trial would meet: bad input, missing data. The message says how to mend it."""

    kind: Literal["refused"] = "refused"
    error: str
    message: str

    @classmethod
    def of(cls, error: UserInputError) -> Refused:
        """An error as a message."""
        return cls(error=type(error).__name__, message=str(error))

    def to_error(self) -> UserInputError:
        """The error itself, of the class it was raised as."""
        kind: type[UserInputError] = getattr(errors, self.error, UserInputError)
        return kind(self.message)


Report = Annotated[Happened | Failed | Refused, Field(discriminator="kind")]
_REPORT: TypeAdapter[Happened | Failed | Refused] = TypeAdapter(Report)


def read_report(text: str) -> Happened | Failed | Refused:
    """What `to_json` of a report wrote."""
    return _REPORT.validate_python(json.loads(text))
