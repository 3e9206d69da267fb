"""The devices of this machine, and what a latency on one of them has to say of it."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import timm
import torch

from sparsesearch.errors import SpecError
from sparsesearch.study.latency_record import Clock, Conditions, MemoryFormat, PrecisionName


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


def conditions_here(
    device: torch.device,
    *,
    precision: PrecisionName,
    batch_size: int,
    compiled: bool = False,
    memory_format: MemoryFormat = "contiguous",
    clock: Clock = "wall",
) -> Conditions:
    """The conditions of this process on one of this machine's devices."""
    on_gpu = device.type == "cuda"
    return Conditions(
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
        clock=clock,
    )


@contextmanager
def torch_threads(wanted: int | None) -> Iterator[None]:
    """So many threads of torch on the CPU for a while; None for as many as there are."""
    before = torch.get_num_threads()
    if wanted is not None:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
