"""The target that milliseconds are counted on."""

from __future__ import annotations

from pydantic import Field

from sparsesearch.study.latency_record import PrecisionName
from sparsesearch.value import Value


class LatencySpec(Value):
    """The target that milliseconds are counted on, and how models run there.

    What is left out is taken from the profile, or without one: batch size 1, float32, not compiled.

    Attributes:
        profile: Name of a profile in the database, or path of its file; null for this machine's `device`, which is
            profiled if it was not before.
        batch_size: Images of one call.
        precision: Type of weights and images.
        compiled: Whether models run through `torch.compile`.
        num_threads: Threads of torch on a CPU.
        profile_seconds: About how long it may take to profile this machine.
    """

    profile: str | None = None
    batch_size: int | None = Field(default=None, ge=1)
    precision: PrecisionName | None = None
    compiled: bool | None = None
    num_threads: int | None = Field(default=None, ge=1)
    profile_seconds: float = Field(default=300.0, gt=0.0)
