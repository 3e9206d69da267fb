"""Backbones bundled with this package, which timm does not provide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import nn

from sparsesearch.backbones import lvvit, pico, pico_grid
from sparsesearch.backbones.model_options import ModelOptions


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


PICO = "deit_pico"
BUNDLED: Mapping[str, BundledBackbone] = {
    PICO: BundledBackbone(pico.create_pico, pico.IMAGE_SIZE, pico.IN_CHANS),
    "convnext_pico": BundledBackbone(pico_grid.create_convnext_pico, pico.IMAGE_SIZE, pico.IN_CHANS),
    "swin_pico": BundledBackbone(pico_grid.create_swin_pico, pico.IMAGE_SIZE, pico.IN_CHANS),
    **{
        name: BundledBackbone(partial(lvvit.create_lvvit, name), size.image_size, size.in_chans)
        for name, size in lvvit.SIZES.items()
    },
}


def is_small(name: str) -> bool:
    """Whether a backbone (resolved name) is designed for the bundled task."""
    return name in BUNDLED and BUNDLED[name].is_small
