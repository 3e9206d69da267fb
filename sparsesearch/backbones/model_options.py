"""Options of a model with a bundled backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Options of a model; None selects the default of the backbone.

    Attributes:
        num_classes: Classes of the head.
        in_chans: Channels of the image.
        image_size: Height and width in pixels.
        drop_rate: Dropout before the head.
        drop_path_rate: Stochastic depth, increasing linearly over the blocks to this rate.
        seed: Seed of the weights. The global random state is not changed.
    """

    num_classes: int | None = None
    in_chans: int | None = None
    image_size: tuple[int, int] | None = None
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    seed: int = 0

    def arguments(self, *, num_classes: int, in_chans: int, image_size: tuple[int, int]) -> dict[str, Any]:
        """Arguments for timm's constructors, with the given defaults of the backbone.

        Args:
            num_classes: Default number of classes.
            in_chans: Default number of image channels.
            image_size: Default height and width in pixels.
        """
        return {
            "num_classes": num_classes if self.num_classes is None else self.num_classes,
            "in_chans": in_chans if self.in_chans is None else self.in_chans,
            "img_size": image_size if self.image_size is None else self.image_size,
            "drop_rate": self.drop_rate,
            "drop_path_rate": self.drop_path_rate,
        }


DEFAULT_OPTIONS = ModelOptions()


@dataclass(frozen=True)
class BundledBackbone:
    """A bundled backbone.

    Attributes:
        build: Builds a dense model, in training mode.
        image_size: Default height and width in pixels.
        in_chans: Default number of image channels; 1 for the backbones designed for the bundled task.
    """

    build: Callable[[ModelOptions], nn.Module]
    image_size: int
    in_chans: int

    @property
    def is_small(self) -> bool:
        """Whether it is designed for the bundled task, to be trained in minutes without a GPU."""
        return self.in_chans == 1
