"""Open data with access by index, and split it."""

from __future__ import annotations

from sparsesearch.data.content import Contents
from sparsesearch.data.folders import Matches, open_folder
from sparsesearch.data.samples import Splits
from sparsesearch.data.source import TORCH_FOLDERS, Source
from sparsesearch.study.spec import DataSpec


def open_splits(
    source: Source,
    spec: DataSpec,
    *,
    mode: str,
    contents: Contents | None = None,
    matches: Matches | None = None,
    state: str = "",
) -> Splits:
    """Open image folders, shards, a torchvision or a Hugging Face data set.

    Args:
        source: Of any kind but `digits`.
        spec: How to split.
        mode: Pillow image mode.
        contents: Hashes the files; by default without a word.
        matches: As in `open_folder`; other sources are identified as a whole.
        state: As in `open_folder`; others have few files to look at.

    Raises:
        DataError: The data is missing, empty or unreadable.
        MissingExtraError: A package needed to read the data is not installed.
    """
    contents = contents or Contents()
    if source.path is not None and (source.kind == "folder" or source.name in TORCH_FOLDERS):
        return open_folder(source.path, spec, mode=mode, contents=contents, matches=matches, state=state)
    if source.path is not None and source.kind == "wds":
        from sparsesearch.data.shards import open_shards  # loads webdataset, which loads torch

        return open_shards(source.path, spec, mode=mode, contents=contents)
    from sparsesearch.data.named import open_named  # loads torch and timm, which folders do not need

    return open_named(source, spec, mode=mode, contents=contents)
