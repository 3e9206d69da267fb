"""Events of a running trial. They are written to the store before anything reacts to them.

All events are plain values that cross process boundaries as JSON.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from sparsesearch.study.hits import Hits
from sparsesearch.study.latency_record import ConfirmedLatency
from sparsesearch.study.trial import CheckpointRef, FinalState, Measurement
from sparsesearch.value import Value


class _Event(Value):
    """The number of the trial, and the attempt as fencing token."""

    trial: int
    attempt: int = Field(ge=1)


class Measured(_Event):
    """An epoch (or an evaluation) was measured.

    Attributes:
        measurement: Its metrics.
        hits: The images that were classified correctly, of the last measurement of a trial; None of all others.
    """

    kind: Literal["measured"] = "measured"
    measurement: Measurement
    hits: Hits | None = None


class Checkpointed(_Event):
    """A checkpoint was written; it replaces the previous one of the trial."""

    kind: Literal["checkpointed"] = "checkpointed"
    checkpoint: CheckpointRef


class Ended(_Event):
    """The trial reached a final state."""

    kind: Literal["ended"] = "ended"
    state: FinalState
    reason: str | None = None


class Confirmed(_Event):
    """The latency of an ended trial was measured on the study's target; it replaces a previous one."""

    kind: Literal["confirmed"] = "confirmed"
    latency: ConfirmedLatency


Event = Annotated[Measured | Checkpointed | Ended | Confirmed, Field(discriminator="kind")]
EVENT: TypeAdapter[Measured | Checkpointed | Ended | Confirmed] = TypeAdapter(Event)
