"""Open data with access by index, and split it."""

from __future__ import annotations

from sparsesearch.data.folders import open_folder
from sparsesearch.data.named import TORCH_FOLDER, open_named
from sparsesearch.data.samples import Splits
from sparsesearch.data.source import Source
from sparsesearch.study.spec import DataSpec


def open_splits(source: Source, spec: DataSpec, *, mode: str) -> Splits:
    """Open image folders, a torchvision or a Hugging Face data set.

    Args:
        source: Of kind `folder`, `torch` or `hfds`.
        spec: How to split.
        mode: Pillow image mode.

    Raises:
        DataError: The data is missing, empty or unreadable.
        MissingExtraError: A package needed to read the data is not installed.
    """
    if source.path is not None and (source.kind == "folder" or source.name in TORCH_FOLDER):
        return open_folder(source.path, spec, mode=mode)
    return open_named(source, spec, mode=mode)
