"""The latency target of a study."""

from __future__ import annotations

from pydantic import Field

from sparsesearch.study.latency_record import PrecisionName, Runtime
from sparsesearch.value import Value


class LatencySpec(Value):
    """The target on which latency is measured, and how models run there.

    Values that are not given are those of the profile; without a profile: batch size 1, float32, not compiled.

    Attributes:
        profile: Name of a profile in the database, or path of its file; null for the `device` of this machine, which is
            profiled if necessary.
        batch_size: Images per call.
        precision: Data type of weights and images.
        compiled: Whether models run through `torch.compile`.
        runtime: What runs the models; torch if it is not given.
        num_threads: Number of torch threads on a CPU.
        profile_seconds: Approximate time limit for profiling this machine.
    """

    profile: str | None = None
    batch_size: int | None = Field(default=None, ge=1)
    precision: PrecisionName | None = None
    compiled: bool | None = None
    runtime: Runtime | None = None
    num_threads: int | None = Field(default=None, ge=1)
    profile_seconds: float = Field(default=300.0, gt=0.0)
