"""What a deployed file says of its model."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

_EXTRA, _AOTI = "/extra/", "_metadata.json"


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file of `export --format`; empty if it has none."""
    if path.suffix == ".onnx":
        from sparsesearch.deploy.formats.onnx import read_metadata as read_onnx

        return read_onnx(path)
    found: dict[str, str] = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if _EXTRA in name:
                found[name.rpartition("/")[2]] = archive.read(name).decode()
            elif name.endswith(_AOTI):
                found |= {key: str(value) for key, value in json.loads(archive.read(name)).items()}
    return found
