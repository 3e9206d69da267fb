"""A latency, and the conditions under which it was measured. Without them it is none."""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

import numpy as np
from pydantic import Field

from sparsesearch.errors import SpecError
from sparsesearch.value import Value

PrecisionName = Literal["float32", "bfloat16", "float16"]
MemoryFormat = Literal["contiguous", "channels_last"]
Clock = Literal["wall", "cpu"]

NUM_RUNS = 50
"""Timed runs that a median should rest on."""

BUSY_RATIO = 1.2
"""A median this many times the minimum tells of a machine that does other work as well."""

_SHORT: dict[str, PrecisionName] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class Conditions(Value):
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
        clock: `wall` is what people wait; `cpu` is processor time of all threads, which other people's work disturbs
            less, and which no budget of milliseconds means.
    """

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
    clock: Clock = "wall"

    @property
    def fingerprint(self) -> str:
        """A short name that is equal for equal conditions alone."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def differences(self, other: Conditions) -> list[str]:
        """In what another target differs, in words; versions of software are not part of a target."""
        found = []
        for name, words in _TARGET.items():
            if name == "num_threads" and self.device != "cpu":
                continue
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours != theirs:
                found.append(words.format(ours=_said(ours), theirs=_said(theirs)))
        return found

    def describe(self) -> str:
        """What people ask first: device, type, batch size, compiled or not."""
        threads = f", {self.num_threads} {'thread' if self.num_threads == 1 else 'threads'}" * (self.device == "cpu")
        compiled = ", compiled" * self.compiled
        clock = ", processor time" * (self.clock == "cpu")
        return f"{self.device_name}, {self.precision}, batch size {self.batch_size}{compiled}{threads}{clock}"


_TARGET = {
    "device_name": "device {theirs} instead of {ours}",
    "precision": "{theirs} instead of {ours}",
    "batch_size": "batch size {theirs} instead of {ours}",
    "compiled": "compiled {theirs} instead of {ours}",
    "memory_format": "{theirs} instead of {ours}",
    "clock": "{theirs} clock instead of {ours} clock",
    "num_threads": "{theirs} CPU threads instead of {ours}",
}


def _said(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


class Latency(Value):
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
    def timing_noise(self) -> float:
        """The median over the minimum: 1 on a machine that does nothing else."""
        return self.median_ms / self.min_ms


class ConfirmedLatency(Value):
    """The latency of one schedule, measured in turn with the dense model.

    Attributes:
        conditions: Under which both ran.
        latency: Of the sparse model, as the clock showed it.
        dense: Of the dense one, in the same rounds.
        ratio: Median over rounds of sparse over dense: what is left when the speed of the machine drifts.
        reference_ms: Dense latency when the device was profiled, None without a profile.
    """

    conditions: Conditions
    latency: Latency
    dense: Latency
    ratio: float = Field(gt=0.0)
    reference_ms: float | None = Field(default=None, gt=0.0)

    @property
    def ms(self) -> float:
        """The latency to hold against a budget: at the speed that the machine had when it was profiled."""
        return self.latency.median_ms if self.reference_ms is None else self.ratio * self.reference_ms

    @property
    def drift(self) -> float:
        """How many times as long the dense model takes now as when the device was profiled."""
        return 1.0 if self.reference_ms is None else self.dense.median_ms / self.reference_ms

    @property
    def is_busy(self) -> bool:
        """Whether the machine did other work as well."""
        return max(self.latency.timing_noise, self.dense.timing_noise) > BUSY_RATIO


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
