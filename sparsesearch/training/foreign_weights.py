"""Read weights that were saved elsewhere: which entry of which file, and names without wrappers; no code is run."""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sparsesearch.errors import CheckpointError, one_line
from sparsesearch.training.weight_files import is_safetensors, weight_files

# A pickle that torch did not write; it is refused in one line.
warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
_AVERAGED = ("state_dict_ema", "model_ema")
_TRAINED = ("state_dict", "model", "module")
_DEEPEST = 4
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The start of torch files that are not zip archives."""
_SAVE = "save only the state dict, with torch.save(model.state_dict(), ...)"
_LONGEST = 120
_WRAPPED = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_OWNERS = ("model.", "backbone.", "encoder.")
"""Names of the attribute of a training module that is the model."""


@dataclass(frozen=True)
class ForeignWeights:
    """A state dict from a file.

    Attributes:
        path: The file or folder that was given.
        entry: The entry of the file that was taken, such as `model_ema`; empty if the file is a state dict.
        tensors: The tensors, their names without the prefixes of wrappers.
        outside: Names of those tensors that did not have the prefix of the others: not part of the model, perhaps.
    """

    path: Path
    entry: str
    tensors: dict[str, Tensor]
    outside: frozenset[str] = field(default_factory=frozenset)

    @property
    def source(self) -> str:
        """The entry and the file, for messages."""
        return f"{self.entry} of {self.path}" if self.entry else str(self.path)


def read_foreign_weights(path: Path, *, ema: bool | None = None) -> ForeignWeights:
    """Read a state dict from a third-party file: safetensors, or a torch file loaded with `weights_only=True`.

    In a training checkpoint, the entries `state_dict_ema`, `model_ema`, `state_dict`, `model` and `module` are tried in
    this order, which is timm's; a state dict inside of an entry is found likewise. The prefixes of wrappers are
    removed: `module.`, `_orig_mod.`, those of FSDP and activation checkpointing, and `model.`, `backbone.` or
    `encoder.` if most names have it.

    Args:
        path: A file, an index of shards, or a folder of the Hugging Face hub.
        ema: True requires averaged weights, False ignores them, None prefers them.

    Raises:
        CheckpointError: The file is missing, unreadable, contains no state dict, or contains one in a form that is not
            supported.
    """
    loaded: dict[str, object] = {}
    for file in weight_files(path):
        content = _read_safetensors(file) if is_safetensors(file) else _unpickled(file)
        if not isinstance(content, Mapping):
            raise CheckpointError(
                f"{path} contains no state dict; expected a mapping of tensors, got {_kind_of(content)}"
            )
        loaded |= {str(name): value for name, value in content.items()}
    entry, chosen = _chosen(loaded, path, ema)
    named = {str(name): value for name, value in chosen.items() if isinstance(value, Tensor)}
    if not named:
        raise CheckpointError(_why_empty(path, entry, chosen))
    _check_flat(path, named)
    names, outside = _without_prefixes(path, named)
    return ForeignWeights(path, entry, {names[name]: tensor for name, tensor in named.items()}, outside)


def _read_safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file ({one_line(error)}); it is truncated or damaged"
        ) from error
    return tensors


def _chosen(loaded: Mapping[str, object], path: Path, ema: bool | None) -> tuple[str, Mapping[Any, object]]:
    """The entry that holds the weights, and its name."""
    entries = (*(() if ema is False else _AVERAGED), *_TRAINED)
    taken: list[str] = []
    current: Mapping[Any, object] = loaded
    while len(taken) < _DEEPEST:
        entry = next((name for name in entries if isinstance(current.get(name), Mapping)), None)
        if entry is None:
            break
        inner = current[entry]
        assert isinstance(inner, Mapping)
        taken.append(entry)
        current = inner
    if ema and not set(taken) & set(_AVERAGED):
        raise CheckpointError(
            f"{path} has no averaged weights ({' or '.join(_AVERAGED)}); omit --ema to use the trained weights"
        )
    return ".".join(taken), current


def _why_empty(path: Path, entry: str, chosen: Mapping[Any, object]) -> str:
    if "param_groups" in chosen or "optimizer" in chosen:
        return f"{path} contains no state dict of a model, only the state of an optimizer; give the file with weights"
    where = f"{entry} of {path}" if entry else str(path)
    others = sorted(str(name) for name, value in chosen.items() if isinstance(value, Mapping))
    hint = f"; it has the entries {', '.join(others[:5])}: save one of them as a file of its own" if others else ""
    return f"{where} contains no state dict; expected a mapping of tensors{hint}"


def _check_flat(path: Path, names: Iterable[str]) -> None:
    flat = next((name for name in names if re.search(r"(?:^|\.|_)flat_param", name)), None)
    if flat is not None:
        raise CheckpointError(
            f"{path} contains flattened parameters of FSDP ({flat}); save it with StateDictType.FULL_STATE_DICT"
        )


def _without_prefixes(path: Path, names: Iterable[str]) -> tuple[dict[str, str], frozenset[str]]:
    """Map names to those without prefixes; also return the new names of those that lacked the prefix of the others."""
    stripped = {name: _WRAPPED.sub("", name) for name in names}
    outside: set[str] = set()
    while True:
        prefix = _prefix_of(stripped.values())
        if prefix is None:
            break
        outside |= {name for name, text in stripped.items() if not text.startswith(prefix)}
        stripped = {name: text.removeprefix(prefix) for name, text in stripped.items()}
        originals: dict[str, str] = {}
        for name, text in stripped.items():
            if originals.setdefault(text, name) != name:
                raise CheckpointError(
                    f"{path} has both {originals[text]} and {name}, so it holds several models; save one of them as a "
                    "file of its own"
                )
    return stripped, frozenset(stripped[name] for name in outside)


def _prefix_of(names: Iterable[str]) -> str | None:
    """The prefix of most names, if it is one of a wrapper."""
    names = list(names)
    for prefix in ("module.", *_OWNERS):
        if 2 * sum(name.startswith(prefix) for name in names) > len(names):
            return prefix
    return None


def _unpickled(path: Path) -> object:
    """Load a torch file without running code from it: tensors, plain values, and what training scripts add to them."""
    try:
        with torch.serialization.safe_globals(_SAFE):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many exception types for corrupt files
        classes = _foreign_classes(path)
        if classes:
            raise CheckpointError(
                f"{path} is not a readable checkpoint: it contains objects that could run code "
                f"({', '.join(classes)}); {_SAVE}"
            ) from error
        raise CheckpointError(f"{path} is not a readable checkpoint: {_why_unreadable(path, error)}") from error


def _why_unreadable(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(len(_LEGACY))
    if start == _LEGACY and isinstance(error, UnpicklingError):
        return f"it contains objects that could run code; {_SAVE}"
    if start == _LEGACY:
        return f"it is truncated or damaged ({one_line(error)[:_LONGEST]})"
    if start.startswith(b"\x80"):
        return f"it is a pickle that torch did not write; {_SAVE}"
    if start.startswith(b"PK"):
        return one_line(error)[:_LONGEST]
    return "it is neither a torch file nor safetensors"


def _foreign_classes(path: Path) -> list[str]:
    """Classes that are refused in a torch file; empty if it is not a torch file."""
    try:
        with torch.serialization.safe_globals(_SAFE):
            return sorted(set(torch.serialization.get_unsafe_globals_in_checkpoint(str(path))))
    except Exception:  # as above
        return []


def _kind_of(content: object) -> str:
    return "a tensor" if isinstance(content, Tensor) else f"a {type(content).__name__}"


def _number(dtype: np.dtype[Any], content: object = None) -> object:
    """Build a NumPy number or text; other types, whose bytes may be pointers, are refused."""
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biufcSUmM" or not isinstance(content, bytes):
        raise ValueError("only numbers and texts of NumPy are read from checkpoints")
    return np.frombuffer(content, dtype, count=1)[0] if content else dtype.type()


_SAFE: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(kind for kind in vars(np.dtypes).values() if isinstance(kind, type)),
    *((_number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(
        (kind, f"pathlib{module}.{name}")
        for kind, names in (
            (PurePosixPath, ("PosixPath", "PurePosixPath")),
            (PureWindowsPath, ("WindowsPath", "PureWindowsPath")),
        )
        for name in names
        for module in ("", "._local")
    ),
]
"""What a file may contain besides tensors and plain values; NumPy's numbers and paths are rebuilt by these types."""
