"""From pixels to the input of a model, after the transfer to the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Normalisation:
    """The mean and standard deviation of each channel, as fractions of full brightness.

    Attributes:
        mean: Channel means.
        std: Channel standard deviations.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """Normalised float32 images of uint8 images, on their device; to the bit as torchvision does on a CPU."""
        found_BCHW = images_BCHW.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            # Numbers instead of tensors: nothing is sent to the device.
            found_BCHW[:, channel].sub_(mean).div_(std)
        return found_BCHW
