"""Device and precision of a computation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sparsesearch.data.task import Batch
from sparsesearch.study.latency_record import PrecisionName, parse_precision

_NATIVE_BFLOAT16 = (8, 0)
"""Compute capability of the first NVIDIA GPUs that multiply bfloat16 in hardware (Ampere)."""


@dataclass(frozen=True)
class Arithmetic:
    """Device and precision of a computation.

    Attributes:
        device: Torch device.
        dtype: `torch.float32`, or `torch.bfloat16` or `torch.float16` for autocast.
        compiles: Whether teachers are compiled with `torch.compile`.
    """

    device: torch.device
    dtype: torch.dtype
    compiles: bool = False

    @classmethod
    def of(cls, precision: str, *, device: torch.device) -> Arithmetic:
        """The arithmetic of a precision: `float32`, `bfloat16`, `float16`, or `auto`.

        `auto` is what `short_type` says on a GPU, and float32 on a CPU.
        """
        if precision == "auto":
            return cls(device, short_type(device) if device.type == "cuda" else torch.float32)
        return cls(device, {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision, torch.float32))

    @property
    def precision(self) -> PrecisionName:
        """Its name in documents."""
        return parse_precision(str(self.dtype).removeprefix("torch."))

    def autocast(self) -> AbstractContextManager[None]:
        """Autocast context, enabled for types of 16 bits; parameters stay float32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def evaluating(self) -> AbstractContextManager[None]:
        """Context of passes whose results are reported: autocast, or float32 without TF32."""
        return full_precision() if self.dtype == torch.float32 else self.autocast()

    def training_products(self) -> AbstractContextManager[None]:
        """While the block runs, a GPU multiplies float32 in TF32, which is several times as fast."""
        return _float32_products("high", convolutions_in_tf32=True) if self.device.type == "cuda" else nullcontext()

    def placed(self, model: nn.Module) -> nn.Module:
        """Move a model to the device; on a GPU with the channels of its convolutions last, as its images have them."""
        if self.device.type == "cpu":
            return model.to(self.device)
        return model.to(self.device).to(memory_format=torch.channels_last)

    def to_device(self, batch: Batch) -> Batch:
        """Move a batch to the device, and normalise it there."""
        if self.device.type == "cpu":
            return batch.normalised()

        def moved(tensor: Tensor | None) -> Any:
            return None if tensor is None else tensor.to(self.device, non_blocking=True)

        images = batch.images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        there = replace(
            batch, images=images, labels=moved(batch.labels), ids=moved(batch.ids), boxes=moved(batch.boxes)
        )
        return there.normalised()

    def scaler(self) -> torch.amp.GradScaler:
        """Scales the loss for float16, and does nothing for other types."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)


def short_type(device: torch.device) -> torch.dtype:
    """The type of 16 bits that a device multiplies in hardware: bfloat16, or float16 on older GPUs."""
    if device.type != "cuda" or torch.version.hip is not None:
        return torch.bfloat16
    return type_of_capability(torch.cuda.get_device_capability(device))


def type_of_capability(capability: tuple[int, int]) -> torch.dtype:
    """The type of 16 bits that an NVIDIA GPU of a compute capability multiplies in hardware.

    torch computes bfloat16 on all of them, but older ones emulate it, which is slower than float32.
    """
    return torch.bfloat16 if capability >= _NATIVE_BFLOAT16 else torch.float16


@contextmanager
def full_precision() -> Iterator[None]:
    """Multiply float32 matrices in float32 on every device while the block runs, for numbers that are published.

    GPUs may otherwise round the factors to TF32 (10 bits of mantissa): in convolutions by default, in matrix products
    during training. It does not end an autocast, which `Arithmetic` decides.
    """
    with _float32_products("highest", convolutions_in_tf32=False):
        yield


@contextmanager
def _float32_products(matrices: str, *, convolutions_in_tf32: bool) -> Iterator[None]:
    """Set how float32 products are computed while the block runs."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision(matrices)
    torch.backends.cudnn.allow_tf32 = convolutions_in_tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
