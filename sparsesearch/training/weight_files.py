"""Which files hold weights that were saved elsewhere, and what looks like one of them but is not; without torch."""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from pathlib import Path

from sparsesearch.errors import CheckpointError, one_line

_IN_FOLDER = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Files of a folder of the Hugging Face hub, the preferred one first."""

_LFS = b"version https://git-lfs.github.com/spec/"
_LARGEST_HEADER = 100_000_000


def weight_files(path: Path) -> tuple[Path, ...]:
    """Return the files that hold the tensors: one, or the shards of an index.

    Args:
        path: A file, an `index.json` that names shards, or a folder of the Hugging Face hub.

    Raises:
        CheckpointError: Something is missing, or is recognised as something other than weights.
    """
    if path.is_dir():
        found = next((path / name for name in _IN_FOLDER if (path / name).is_file()), None)
        if found is None:
            raise CheckpointError(f"{path} is a folder without model.safetensors or pytorch_model.bin; give a file")
        path = found
    files = _shards(path) if path.name.endswith(".index.json") else (path,)
    for file in files:
        _check(file)
    return files


def content_hash(path: Path) -> str:
    """SHA-256 of the content of weights, whatever their name.

    Raises:
        CheckpointError: As `weight_files`, or a file cannot be read.
    """
    found = hashlib.sha256()
    for file in weight_files(path):
        try:
            with file.open("rb") as stream:
                found.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise CheckpointError(f"cannot read the weights file {file}: {error.strerror}") from error
    return found.hexdigest()


def is_safetensors(path: Path) -> bool:
    """Whether a file is to be read as safetensors, by its name or its first bytes."""
    start = _start(path)
    length = int.from_bytes(start[:8], "little")
    return path.suffix == ".safetensors" or (start[8:9] == b"{" and 0 < length < _LARGEST_HEADER)


def _shards(index: Path) -> tuple[Path, ...]:
    """The files that an index names; they must be in its folder."""
    try:
        document = json.loads(index.read_text(encoding="utf-8"))
        names = sorted(set(document["weight_map"].values()))
    except OSError as error:
        raise CheckpointError(f"cannot read the index {index}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{index} is not an index of weights: it has no weight_map of names to files") from error
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise CheckpointError(f"{index} is not an index of weights: its weight_map must name files in the same folder")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{index} names {len(names)} files, of which {len(missing)} are missing ({missing[0]}); download them all"
        )
    return tuple(index.parent / name for name in names)


def _check(path: Path) -> None:
    """Refuse what is recognised as something other than weights."""
    start = _start(path)
    text = start.lstrip().lower()
    if not start:
        raise CheckpointError(f"{path} is empty; download or copy it again")
    if start.startswith(_LFS):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the file itself; run git lfs pull")
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise CheckpointError(f"{path} is a web page, not weights; download the file itself")
    if start[257:262] == b"ustar":
        raise CheckpointError(
            f"{path} is a tar archive: extract it, or if torch before version 0.4 wrote it, load it there and save "
            "it again"
        )
    if start.startswith(b"\x1f\x8b"):
        raise CheckpointError(f"{path} is a compressed archive; extract it first")
    if start.startswith(b"PK"):
        _check_archive(path)


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, struct.error, EOFError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a readable checkpoint: it is truncated or damaged ({one_line(error)})"
        ) from error
    if names and all(name.endswith(".npy") for name in names):
        raise CheckpointError(f"{path} is a NumPy archive; give weights that were saved by torch or safetensors")
    if not any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
        raise CheckpointError(f"{path} is not a readable checkpoint: it is a zip archive of other files; extract it")


def _start(path: Path) -> bytes:
    if not path.exists():
        raise CheckpointError(f"no such weights file: {path}")
    if not path.is_file():
        raise CheckpointError(f"{path} is not a regular file; give a file with weights")
    try:
        with path.open("rb") as stream:
            return stream.read(512)
    except OSError as error:
        raise CheckpointError(f"cannot read the weights file {path}: {error.strerror}") from error
