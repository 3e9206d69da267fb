"""Under what conditions a latency was measured. Without them it is no latency."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Literal, get_args

import timm
import torch
from pydantic import BaseModel, ConfigDict, Field

from sparsesearch.errors import SpecError

Device = torch.device
PrecisionName = Literal["float32", "bfloat16", "float16"]
MemoryFormat = Literal["contiguous", "channels_last"]

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

    @classmethod
    def here(
        cls,
        device: Device,
        *,
        precision: PrecisionName,
        batch_size: int,
        compiled: bool = False,
        memory_format: MemoryFormat = "contiguous",
    ) -> Conditions:
        """The conditions of this process on one of this machine's devices."""
        on_gpu = device.type == "cuda"
        return cls(
            device=device.type,
            device_name=torch.cuda.get_device_name(device) if on_gpu else _processor(),
            precision=precision,
            batch_size=batch_size,
            compiled=compiled,
            memory_format=memory_format,
            num_threads=torch.get_num_threads(),
            torch=torch.__version__,
            timm=timm.__version__,
            cuda=torch.version.cuda if on_gpu else None,
            cudnn=torch.backends.cudnn.version() if on_gpu else None,  # type: ignore[no-untyped-call]
            driver=_driver() if on_gpu else None,
        )


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


def open_device(device: str) -> torch.device:
    """The device of `auto`, `cpu` or `cuda[:N]`.

    Raises:
        SpecError: There is no such CUDA device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = torch.device(device)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise SpecError(f"no device {device}: {torch.cuda.device_count()} CUDA devices found; use --device cpu")
    return chosen


def _processor() -> str:
    """The processor's name on Linux, elsewhere what Python knows of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def _driver() -> str | None:
    """The driver's version, as nvidia-smi tells it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0].strip() if done.stdout.strip() else None
