"""Measured latencies, with the conditions of the measurement."""

from __future__ import annotations

import hashlib
from typing import Any, Literal, get_args

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from sparsesearch.errors import SpecError
from sparsesearch.value import Value

PrecisionName = Literal["float32", "bfloat16", "float16"]
MemoryFormat = Literal["contiguous", "channels_last"]
Clock = Literal["wall", "cpu"]
Runtime = Literal["torch", "onnx", "aoti", "cuda-graph"]
"""What runs the models: torch (compiled or not), ONNX Runtime, a package of AOTInductor, or torch with a CUDA graph."""

NUM_RUNS = 50
"""Recommended number of timed runs for a median."""

BUSY_RATIO = 1.2
"""The machine counts as busy if the median is this many times the minimum."""

_SHORT: dict[str, PrecisionName] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class Conditions(Value):
    """Everything except the model that a latency depends on. Latencies under equal conditions are comparable.

    Attributes:
        device: `cpu` or `cuda`.
        device_name: Name of the processor or GPU.
        precision: Data type of weights and images.
        batch_size: Images per call.
        compiled: Whether models ran through `torch.compile`.
        memory_format: Memory format of images and convolution weights.
        num_threads: Number of torch threads on the CPU.
        torch: Version of torch.
        timm: Version of timm.
        cuda: Version of CUDA that torch was built for; None on a CPU.
        cudnn: Version of cuDNN; None on a CPU.
        driver: Version of the NVIDIA driver; None on a CPU or if unknown.
        clock: `wall` is elapsed time; `cpu` is processor time of all threads, which is less sensitive to other load
            but not comparable with a budget in milliseconds.
        runtime: What runs the models.
        runtime_version: Version of a runtime that is not a part of torch; None if it is.
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
    runtime: Runtime = "torch"
    runtime_version: str | None = None

    @model_serializer(mode="wrap")
    def _without_torch(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a runtime where there is no other than torch, as it was before there were others."""
        found: dict[str, Any] = handler(self)
        if self.runtime == "torch":
            del found["runtime"]
        if self.runtime_version is None:
            del found["runtime_version"]
        return found

    @property
    def fingerprint(self) -> str:
        """A short hash; equal if and only if the conditions are equal."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def differences(self, other: Conditions) -> list[str]:
        """Differences of another target, in words; software versions are not part of a target."""
        found = []
        for name, words in _TARGET.items():
            if name == "num_threads" and self.device != "cpu":
                continue
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours != theirs:
                found.append(words.format(ours=_value_text(ours), theirs=_value_text(theirs)))
        return found

    def describe(self) -> str:
        """Short description: device, data type, batch size, compiled or not."""
        threads = f", {self.num_threads} {'thread' if self.num_threads == 1 else 'threads'}" * (self.device == "cpu")
        compiled = ", compiled" * self.compiled + _RUNTIMES[self.runtime]
        clock = ", processor time" * (self.clock == "cpu")
        return f"{self.device_name}, {self.precision}, batch size {self.batch_size}{compiled}{threads}{clock}"


_RUNTIMES: dict[Runtime, str] = {
    "torch": "",
    "onnx": ", ONNX Runtime",
    "aoti": ", AOTInductor",
    "cuda-graph": ", CUDA graph",
}
_TARGET = {
    "device_name": "device {theirs} instead of {ours}",
    "precision": "{theirs} instead of {ours}",
    "batch_size": "batch size {theirs} instead of {ours}",
    "compiled": "compiled {theirs} instead of {ours}",
    "memory_format": "{theirs} instead of {ours}",
    "runtime": "runtime {theirs} instead of {ours}",
    "clock": "{theirs} clock instead of {ours} clock",
    "num_threads": "{theirs} CPU threads instead of {ours}",
}


def _value_text(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


class Latency(Value):
    """Latency of one call in milliseconds, over all timed runs.

    Attributes:
        num_runs: Number of timed runs.
        median_ms: Median, the number to report.
        min_ms: Fastest run, an estimate for an idle machine.
        p10_ms: 10th percentile.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        working_bytes: Peak device memory of a call beyond what was allocated before; None on a CPU.
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
        """Compute the statistics of timed runs."""
        import numpy as np  # commands that only read studies do not need it

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
        """Median over minimum; 1 on an idle machine."""
        return self.median_ms / self.min_ms


class ConfirmedLatency(Value):
    """The latency of one schedule, measured in alternation with the dense model.

    Attributes:
        conditions: Conditions of both measurements.
        latency: Measured latency of the sparse model.
        dense: Latency of the dense model in the same rounds.
        ratio: Median over rounds of sparse over dense, which is robust to drift of the machine.
        reference_ms: Dense latency when the device was profiled; None without a profile.
    """

    conditions: Conditions
    latency: Latency
    dense: Latency
    ratio: float = Field(gt=0.0)
    reference_ms: float | None = Field(default=None, gt=0.0)

    @property
    def ms(self) -> float:
        """The latency to compare with a budget, at the speed of the machine when it was profiled."""
        return self.latency.median_ms if self.reference_ms is None else self.ratio * self.reference_ms

    @property
    def drift(self) -> float:
        """Current dense latency over that of the profile; 1 without a profile."""
        return 1.0 if self.reference_ms is None else self.dense.median_ms / self.reference_ms

    @property
    def is_busy(self) -> bool:
        """Whether the machine was busy with other work."""
        return max(self.latency.timing_noise, self.dense.timing_noise) > BUSY_RATIO


def parse_precision(text: str) -> PrecisionName:
    """Parse `float32`, `bfloat16`, `float16`, or their short forms `fp32`, `bf16`, `fp16`.

    Raises:
        SpecError: The text is none of these.
    """
    for name in get_args(PrecisionName):
        if text == name or _SHORT.get(text) == name:
            found: PrecisionName = name
            return found
    raise SpecError(f"invalid precision {text!r}; choose float32, bf16 or fp16")


def parse_runtime(text: str) -> Runtime:
    """Parse `torch`, `onnx`, `aoti` or `cuda-graph`.

    Raises:
        SpecError: The text is something else.
    """
    for name in get_args(Runtime):
        if text == name:
            found: Runtime = name
            return found
    raise SpecError(f"invalid runtime {text!r}; choose {', '.join(get_args(Runtime))}")
