"""The backbones of this package, which timm does not have, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import nn

from sparsesearch.backbones import lvvit, pico, pico_grid
from sparsesearch.backbones.model_options import ModelOptions


@dataclass(frozen=True)
class OwnBackbone:
    """A backbone of this package.

    Attributes:
        build: Makes a dense model, in training mode.
        image_size: Its own height and width in pixels.
        in_chans: Its own channels of an image: 1 for those made for the bundled task, which take any number.
    """

    build: Callable[[ModelOptions], nn.Module]
    image_size: int
    in_chans: int

    @property
    def is_small(self) -> bool:
        """Whether it is made for the bundled task, to be trained in minutes without a GPU."""
        return self.in_chans == 1


PICO = "deit_pico"
OWN: Mapping[str, OwnBackbone] = {
    PICO: OwnBackbone(pico.create_pico, pico.IMAGE_SIZE, pico.IN_CHANS),
    "convnext_pico": OwnBackbone(pico_grid.create_convnext_pico, pico.IMAGE_SIZE, pico.IN_CHANS),
    "swin_pico": OwnBackbone(pico_grid.create_swin_pico, pico.IMAGE_SIZE, pico.IN_CHANS),
    **{
        name: OwnBackbone(partial(lvvit.create_lvvit, name), size.image_size, size.in_chans)
        for name, size in lvvit.SIZES.items()
    },
}


def is_small(name: str) -> bool:
    """Whether a backbone (resolved name) is one that is made for the bundled task."""
    return name in OWN and OWN[name].is_small
