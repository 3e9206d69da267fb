"""What can be wished of a model of one of this package's own backbones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a model differs from what its backbone is by itself.

    Attributes:
        num_classes: Classes of the head; None for the backbone's own.
        in_chans: Channels of the image; None for the backbone's own.
        image_size: Height and width in pixels; None for the backbone's own.
        drop_rate: Dropout in front of the head.
        drop_path_rate: Stochastic depth, rising linearly over the blocks to this rate.
        seed: Seed of the weights. The global random state is left as it was.
    """

    num_classes: int | None = None
    in_chans: int | None = None
    image_size: tuple[int, int] | None = None
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    seed: int = 0

    def arguments(self, *, num_classes: int, in_chans: int, image_size: tuple[int, int]) -> dict[str, Any]:
        """Arguments of timm's constructors.

        Args:
            num_classes: The backbone's own, where nothing is wished; the others likewise.
            in_chans: Channels of the image.
            image_size: Height and width in pixels.
        """
        return {
            "num_classes": num_classes if self.num_classes is None else self.num_classes,
            "in_chans": in_chans if self.in_chans is None else self.in_chans,
            "img_size": image_size if self.image_size is None else self.image_size,
            "drop_rate": self.drop_rate,
            "drop_path_rate": self.drop_path_rate,
        }


DEFAULT_OPTIONS = ModelOptions()
