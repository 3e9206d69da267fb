"""The size of the images of a study; no data is opened."""

from __future__ import annotations

from sparsesearch.backbones.lookup import is_small, own_input
from sparsesearch.study.spec import DataSpec


def input_size(backbone: str, data: DataSpec) -> tuple[int, int]:
    """Height (equal to the width) in pixels, and channels, of the input of a backbone on the given data.

    Args:
        backbone: Resolved name.
        data: Its `image_size` overrides that of the backbone.
    """
    pixels, in_chans = own_input(backbone)
    if is_small(backbone):
        in_chans = 1 if data.is_demo else 3
    return data.image_size or pixels, in_chans
