"""What the machine can do: device, precision, and measured images a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Literal

import torch
from torch.nn import functional as F

from sparsesearch.errors import SpecError
from sparsesearch.evaluate.phases import Setting
from sparsesearch.evaluate.task import Task
from sparsesearch.evaluate.training import Arithmetic
from sparsesearch.geometry import BackboneGeometry

Precision = Literal["auto", "float32", "bfloat16"]

_CLEARLY_FASTER = 1.3
_LARGE_MACS = 500_000_000
_REPEATS = 3


@dataclass(frozen=True)
class Speeds:
    """Seconds an image through the dense model, median of several batches.

    Attributes:
        train_s: Forward, backward and update.
        infer_s: Forward alone.
    """

    train_s: float
    infer_s: float


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


def choose_arithmetic(
    precision: Precision, *, device: torch.device, backbone: str, geometry: BackboneGeometry, task: Task
) -> tuple[Arithmetic, Speeds]:
    """Device and precision, with the speed that was measured for them.

    `auto` is bfloat16 on a GPU; on a CPU it is whichever was measured clearly faster (float32 below 1.3x).
    """
    candidates: list[torch.dtype]
    if precision != "auto":
        candidates = [torch.bfloat16 if precision == "bfloat16" else torch.float32]
    elif device.type == "cuda":
        candidates = [torch.bfloat16]
    elif geometry.stem_macs + sum(s.depth * s.mlp_macs * s.num_tokens for s in geometry.stages) < _LARGE_MACS:
        candidates = [torch.float32]
    else:
        candidates = [torch.float32, torch.bfloat16]
    measured: list[tuple[Arithmetic, Speeds]] = []
    for dtype in candidates:
        arithmetic = Arithmetic(device, dtype)
        measured.append((arithmetic, measure_speeds(Setting(backbone, geometry, task, arithmetic, seed=0))))
    plain = measured[0]
    best = min(measured, key=lambda pair: pair[1].train_s)
    return best if best[1].train_s * _CLEARLY_FASTER < plain[1].train_s else plain


def measure_speeds(setting: Setting) -> Speeds:
    """Time a few batches of random images through a fresh dense model."""
    batch = 8 if setting.geometry.image_size[0] > 64 and setting.arithmetic.device.type == "cpu" else 64
    model = setting.fresh_model()
    device = setting.arithmetic.device
    shape = (batch, setting.task.in_chans, *setting.geometry.image_size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    labels = torch.zeros(batch, dtype=torch.long, device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        with setting.arithmetic.autocast():
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def infer() -> None:
        with torch.no_grad(), setting.arithmetic.autocast():
            model(images)

    train_s = _time(train, device) / batch
    model.eval()
    return Speeds(train_s=train_s, infer_s=_time(infer, device) / batch)


def _time(work: Callable[[], None], device: torch.device) -> float:
    seconds = []
    for i in range(_REPEATS + 1):
        started = perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if i > 0:
            seconds.append(perf_counter() - started)
    return median(seconds)
