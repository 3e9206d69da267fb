"""Device and precision of a computation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from sparsesearch.data.task import Batch


@dataclass(frozen=True)
class Arithmetic:
    """Device and precision of a computation.

    Attributes:
        device: Torch device.
        dtype: `torch.float32`, or `torch.bfloat16` for autocast.
    """

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, precision: str, *, device: torch.device) -> Arithmetic:
        """The arithmetic of a precision, `float32` or `bfloat16`."""
        return cls(device, torch.bfloat16 if precision == "bfloat16" else torch.float32)

    @property
    def is_bfloat16(self) -> bool:
        """Whether matrix products run in bfloat16."""
        return self.dtype == torch.bfloat16

    def autocast(self) -> torch.autocast:
        """Autocast context, enabled for bfloat16; parameters stay float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.is_bfloat16)

    def to_device(self, batch: Batch) -> Batch:
        """Move a batch to the device, and normalise it there."""
        if self.device.type == "cpu":
            return batch.normalised()
        rest = {
            name: None if tensor is None else tensor.to(self.device, non_blocking=True)
            for name, tensor in (("labels", batch.labels), ("ids", batch.ids), ("boxes", batch.boxes))
        }
        images = batch.images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        return replace(batch, images=images, **rest).normalised()

    def scaler(self) -> torch.amp.GradScaler:
        """Scales the loss for float16, and does nothing for other types."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)


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
