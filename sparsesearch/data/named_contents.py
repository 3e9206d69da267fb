"""The contents of data sets that are opened by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsesearch.data.content import Contents, combined
from sparsesearch.data.file_walk import found_file


def named_digest(dataset: Any, contents: Contents) -> str:
    """Digest of the images and labels of a split, whatever folder they are in.

    Args:
        dataset: A data set of torchvision, or timm's wrapper of one of Hugging Face.
        contents: Remembers digests of files.

    Raises:
        DataError: A file cannot be read.
    """
    reader = getattr(dataset, "reader", None)
    if reader is not None:
        return _hugging_face(reader, contents)
    files = getattr(dataset, "imgs", None) or getattr(dataset, "samples", None)
    if files is None:  # the small data sets are in memory
        return combined(np.ascontiguousarray(dataset.data).tobytes(), np.asarray(dataset.targets).tolist())
    return combined(*_of_files([path for path, _ in files], contents), [int(label) for _, label in files])


def _hugging_face(reader: Any, contents: Contents) -> str:
    """Digest of the rows: remembered for files of Arrow tables that are unchanged, but images outside are looked at."""
    table = reader.dataset
    stored = [found_file(entry["filename"]) for entry in table.cache_files]
    name = ""
    if stored:
        name = "rows " + combined(reader.image_key, reader.label_key, len(table), *contents.digests(stored))
    known = contents.cache.derived(name) if name else None
    if known is not None:
        return known
    outside: list[str] = []
    rows: list[str] = []
    with contents.progress.bar(f"hashing {len(table):,} rows of the data", len(table)) as bar:
        for row in table.select_columns([reader.image_key, reader.label_key]):
            image = row[reader.image_key] or {}
            if image.get("bytes"):
                rows.append(combined(image["bytes"], row[reader.label_key]))
            else:
                rows.append(combined(len(outside), row[reader.label_key]))
                outside.append(str(image.get("path")))
            bar.advance()
    found = combined(*rows, *(_of_files(outside, contents) if outside else ()))
    if name and not outside:
        contents.cache.keep_derived(name, found)
    return found


def _of_files(paths: list[str], contents: Contents) -> list[str]:
    return contents.digests([found_file(path) for path in paths])
