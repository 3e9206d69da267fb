"""Messages between drivers and workers, as JSON: a job to the worker, reports back.

NaN and infinities, which JSON lacks, are written as in Python.
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
        """Serialize the message."""
        return json.dumps(self.model_dump())


class Job(_Message):
    """A trial to execute.

    Attributes:
        trial: The claimed trial, as stored.
        evaluator: The evaluator, which turns the trial into events.
        threads: CPU threads of the worker.
    """

    trial: Trial
    evaluator: PortableEvaluator
    threads: int = Field(ge=1)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Parse the result of `to_json`."""
        return cls.model_validate(json.loads(text))


class Happened(_Message):
    """An event of the trial."""

    kind: Literal["happened"] = "happened"
    event: Event


class Failed(_Message):
    """The trial failed; the worker should not be used again."""

    kind: Literal["failed"] = "failed"
    reason: str


class Faulted(_Message):
    """A disk, network or machine failed while the trial ran; the trial can be tried again once it works."""

    kind: Literal["faulted"] = "faulted"
    reason: str


class Refused(_Message):
    """The trial raised an error that every trial would raise, such as invalid input or missing data."""

    kind: Literal["refused"] = "refused"
    error: str
    message: str

    @classmethod
    def of(cls, error: UserInputError) -> Refused:
        """Convert an error to a message."""
        return cls(error=type(error).__name__, message=str(error))

    def to_error(self) -> UserInputError:
        """Return the error, with its original class."""
        kind: type[UserInputError] = getattr(errors, self.error, UserInputError)
        return kind(self.message)


class Stopped(_Message):
    """The trial stopped as asked, between two steps; a checkpoint was written, and the trial goes on from it later."""

    kind: Literal["stopped"] = "stopped"


Report = Happened | Failed | Faulted | Refused | Stopped
_REPORT: TypeAdapter[Report] = TypeAdapter(Annotated[Report, Field(discriminator="kind")])


def read_report(text: str) -> Report:
    """Parse the result of `to_json` of a report."""
    return _REPORT.validate_python(json.loads(text))
