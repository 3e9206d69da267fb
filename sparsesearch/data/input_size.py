"""The size of the images of a study; no data is opened."""

from __future__ import annotations

from sparsesearch.backbones.lookup import is_small, own_input
from sparsesearch.errors import SpecError
from sparsesearch.schedule.image_size import ImageSize, size_text
from sparsesearch.study.spec import DataSpec


def input_size(backbone: str, data: DataSpec) -> tuple[ImageSize, int]:
    """Height and width in pixels, and channels, of the input of a backbone on the given data.

    Args:
        backbone: Resolved name.
        data: Its `image_size` overrides that of the backbone.

    Raises:
        SpecError: The bundled task, whose images are square, is to have others.
    """
    pixels, in_chans = own_input(backbone)
    if is_small(backbone):
        in_chans = 1 if data.is_demo else 3
    size = data.image_size or pixels
    if data.is_demo and not isinstance(size, int):
        raise SpecError(
            f"the images of {data.source} are square, not {size_text(size)}; give --image-size one number of pixels"
        )
    return size, in_chans
