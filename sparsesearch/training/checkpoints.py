"""Tensors on disk: safetensors only, written atomically, verified by hash when read."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as dump_safetensors
from torch import Tensor

from sparsesearch.errors import CheckpointError, one_line
from sparsesearch.study.trial import CheckpointRef
from sparsesearch.training.study_folder import study_folder

_METADATA_KEY = "sparsesearch"
_OLDER_NAMES = {"supernet_training": "elastic"}  # files written by older versions


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, object]) -> str:
    """Write tensors and a JSON document atomically; returns the SHA-256 of the file.

    Args:
        path: Target file; its folder is created.
        tensors: Name to tensor, on any device.
        metadata: JSON-serializable document stored in the file's header.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    blob = dump_safetensors(plain, metadata={_METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    with partial.open("wb") as file:
        file.write(blob)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return hashlib.sha256(blob).hexdigest()


def read_tensors(path: Path, *, sha256: str | None = None) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Read a file of `write_tensors`, or any safetensors file (with an empty document).

    Raises:
        CheckpointError: The file is missing, truncated, not safetensors, or does not match the recorded hash.
    """
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror}") from error
    if sha256 is not None and hashlib.sha256(blob).hexdigest() != sha256:
        raise CheckpointError(f"the checkpoint {path} is corrupt (SHA-256 does not match the recorded one); delete it")
    try:
        tensors = parse_safetensors(blob)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a readable safetensors file ({one_line(error)}); delete it") from error
    header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    try:
        document = json.loads(header.get("__metadata__", {}).get(_METADATA_KEY, "{}"))
    except ValueError as error:
        raise CheckpointError(f"the metadata of {path} is not valid JSON ({one_line(error)}); delete it") from error
    return tensors, document


def read_foreign_weights(path: Path, *, ema: bool | None = None) -> dict[str, Tensor]:
    """Read a state dict from a third-party file: safetensors, or a torch file loaded with `weights_only=True`.

    In a training checkpoint, the entries `model_ema`, `model` and `state_dict` are tried in this order.

    Args:
        path: The file.
        ema: True requires `model_ema`, False ignores it, None prefers it.

    Raises:
        CheckpointError: The file is missing, unreadable, or contains no state dict.
    """
    loaded: object = read_tensors(path)[0] if path.suffix == ".safetensors" else _unpickled(path)
    if ema and not (isinstance(loaded, dict) and isinstance(loaded.get("model_ema"), dict)):
        raise CheckpointError(f"{path} has no model_ema entry; omit --ema to use the trained weights")
    for entry in ("model_ema", "model", "state_dict")[ema is False :]:
        if isinstance(loaded, dict) and isinstance(loaded.get(entry), dict):
            loaded = loaded[entry]
            break
    if not isinstance(loaded, dict) or not any(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path} contains no state dict; expected a mapping of tensors")
    return {str(name).removeprefix("module."): v for name, v in loaded.items() if isinstance(v, Tensor)}


def _unpickled(path: Path) -> object:
    """Load a torch file without running code from it: tensors, plain values and an `argparse.Namespace`."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"no such weights file: {path}") from error
    except Exception as error:  # torch raises many exception types for corrupt files
        classes = _foreign_classes(path)
        if classes:
            raise CheckpointError(
                f"{path} is not a readable checkpoint: it contains objects that could run code "
                f"({', '.join(classes)}); save only the state dict, with torch.save(model.state_dict(), ...)"
            ) from error
        raise CheckpointError(f"{path} is not a readable checkpoint ({one_line(error)[:120]})") from error


def _foreign_classes(path: Path) -> list[str]:
    """Classes that `weights_only=True` refuses to load from a torch file; empty if it is not a torch file."""
    try:
        found: list[str] = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # as above
        return []
    return sorted({*found} - {"argparse.Namespace"})


class CheckpointFolder:
    """Checkpoints of one study under a storage root. References are relative to the root, so that it can be moved."""

    def __init__(self, root: Path, study: str) -> None:
        self._root = root
        self._study = study

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return study_folder(self._root, self._study)

    @property
    def work_folder(self) -> Path:
        """Folder of the progress of its trainings under way."""
        return self.folder / "work"

    def save(
        self, name: str, tensors: Mapping[str, Tensor], *, step: int, metadata: Mapping[str, object]
    ) -> CheckpointRef:
        """Write `NAME.safetensors` into the study's folder."""
        uri = f"{self._study}/{name}.safetensors"
        return CheckpointRef(uri=uri, sha256=write_tensors(self._root / uri, tensors, metadata=metadata), step=step)

    def holds(self, ref: CheckpointRef) -> bool:
        """Whether the file of a reference exists."""
        return (self._root / ref.uri).is_file()

    def load(self, ref: CheckpointRef) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Read the file of a reference and verify its hash."""
        return read_tensors(self._root / ref.uri, sha256=ref.sha256)

    def read(self, name: str) -> dict[str, Tensor]:
        """The tensors of `NAME.safetensors`."""
        return read_tensors(self._path(name))[0]

    def document(self, name: str) -> dict[str, object]:
        """The JSON document of `NAME.safetensors`."""
        return read_tensors(self._path(name))[1]

    def _path(self, name: str) -> Path:
        path = self.folder / f"{name}.safetensors"
        older = self.folder / f"{_OLDER_NAMES.get(name, name)}.safetensors"
        return older if older.is_file() and not path.is_file() else path

    def remove_others(self, *, prefix: str, keep: CheckpointRef) -> None:
        """Delete the study's files whose names start with `prefix`, except one."""
        for path in self.folder.glob(f"{prefix}*"):
            if path != self._root / keep.uri:
                path.unlink(missing_ok=True)
