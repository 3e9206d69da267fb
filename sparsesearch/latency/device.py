"""The devices of this machine, and the conditions recorded with a latency."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import timm
import torch

from sparsesearch.errors import SpecError
from sparsesearch.study.latency_record import Clock, Conditions, MemoryFormat, PrecisionName, Runtime
from sparsesearch.study.machine import Machine


def open_device(device: str) -> torch.device:
    """Open `auto`, `cpu` or `cuda[:N]`.

    Raises:
        SpecError: The CUDA device does not exist.
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
    runtime: Runtime = "torch",
) -> Conditions:
    """The conditions of a measurement by this process on a device of this machine."""
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
        runtime=runtime,
        runtime_version=version("onnxruntime") if runtime == "onnx" else None,
    )


def machine_here(device: torch.device) -> Machine:
    """This machine, with the versions of the program and its libraries.

    Args:
        device: The device of the study.
    """
    return Machine(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        sparsesearch=version("sparsesearch"),
        torch=torch.__version__,
        timm=timm.__version__,
    )


@contextmanager
def torch_threads(num_threads: int | None) -> Iterator[None]:
    """Temporarily set the number of CPU threads of torch; None leaves it unchanged."""
    before = torch.get_num_threads()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _processor() -> str:
    """The name of the processor: the model name on Linux, elsewhere the one from `platform`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def _driver() -> str | None:
    """The driver version reported by nvidia-smi."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0].strip() if done.stdout.strip() else None
