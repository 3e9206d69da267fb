"""A latency, and the conditions under which it was measured. Without them it is none."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from sparsesearch.errors import SpecError

PrecisionName = Literal["float32", "bfloat16", "float16"]
MemoryFormat = Literal["contiguous", "channels_last"]

NUM_RUNS = 50
"""Timed runs that a median should rest on."""

BUSY_RATIO = 1.2
"""A median this many times the minimum tells of a machine that does other work as well."""

_SHORT: dict[str, PrecisionName] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class Conditions(BaseModel):
    """Everything besides the model that a latency depends on. Equal conditions make latencies comparable.

    Attributes:
        device: `cpu` or `cuda`.
        device_name: What the processor or GPU calls itself.
        precision: Type of weights and images.
        batch_size: Images of one call.
        compiled: Whether models ran through `torch.compile`.
        memory_format: Of images and convolution weights.
        num_threads: Threads of torch on the CPU.
        torch: Version of torch.
        timm: Version of timm, whose forward code runs.
        cuda: Version of CUDA that torch was built for, None on a CPU.
        cudnn: Version of cuDNN, None on a CPU.
        driver: Version of the NVIDIA driver, None on a CPU or if it cannot be read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    device_name: str
    precision: PrecisionName
    batch_size: int = Field(ge=1)
    compiled: bool
    memory_format: MemoryFormat
    num_threads: int
    torch: str
    timm: str
    cuda: str | None = None
    cudnn: int | None = None
    driver: str | None = None


class Latency(BaseModel):
    """How long one call takes, in milliseconds, over all timed runs.

    Attributes:
        num_runs: Timed runs.
        median_ms: The number to quote.
        min_ms: The fastest run: what an idle machine would show.
        p10_ms: A tenth of the runs is faster.
        p90_ms: A tenth of the runs is slower.
        p99_ms: One run in a hundred is slower.
        working_bytes: Most device memory that a call took besides what lay there before it; None on a CPU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_runs: int = Field(ge=1)
    median_ms: float = Field(gt=0.0)
    min_ms: float = Field(gt=0.0)
    p10_ms: float = Field(gt=0.0)
    p90_ms: float = Field(gt=0.0)
    p99_ms: float = Field(gt=0.0)
    working_bytes: int | None = None

    @classmethod
    def of(cls, runs_ms: list[float], *, working_bytes: int | None = None) -> Latency:
        """The statistics of timed runs."""
        p10, p50, p90, p99 = (float(value) for value in np.percentile(runs_ms, (10, 50, 90, 99)))
        return cls(
            num_runs=len(runs_ms),
            median_ms=p50,
            min_ms=min(runs_ms),
            p10_ms=p10,
            p90_ms=p90,
            p99_ms=p99,
            working_bytes=working_bytes,
        )

    @property
    def unrest(self) -> float:
        """The median over the minimum: 1 on a machine that does nothing else."""
        return self.median_ms / self.min_ms


def parse_precision(text: str) -> PrecisionName:
    """The precision of `float32`, `bfloat16` or `float16`, or of `fp32`, `bf16` or `fp16`.

    Raises:
        SpecError: None of these.
    """
    for name in get_args(PrecisionName):
        if text == name or _SHORT.get(text) == name:
            found: PrecisionName = name
            return found
    raise SpecError(f"no precision is called {text!r}; say float32, bf16 or fp16")
