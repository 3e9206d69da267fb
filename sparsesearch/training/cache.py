"""Finished trainings that studies share: dense teachers and supernet weights, keyed by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sparsesearch.errors import CheckpointError
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.study.spec import TrainSpec
from sparsesearch.training.checkpoints import read_tensors, write_tensors

_VERSION = 1


@dataclass(frozen=True)
class StoredTraining:
    """A finished training.

    Attributes:
        tensors: The weights.
        history: (epoch, metrics) of every epoch, as measured.
    """

    tensors: dict[str, Tensor]
    history: list[tuple[int, dict[str, float]]]


def dense_key(
    *,
    geometry: BackboneGeometry,
    weights: str,
    data_fingerprint: str,
    training: TrainSpec,
    seed: int,
    dtype: torch.dtype,
) -> str:
    """Key of a dense training: equal inputs give equal weights.

    Raises:
        CheckpointError: The weights file cannot be read.
    """
    source = weights
    if weights not in ("pretrained", "scratch"):
        source = _hash_of(Path(weights).expanduser())
    return _key(
        "dense",
        {
            "geometry": geometry.model_dump(mode="json"),
            "weights": source,
            "data": data_fingerprint,
            "training": training.model_dump(mode="json"),
            "seed": seed,
            "dtype": str(dtype),
        },
    )


def supernet_key(dense: str, *, space: ResolvedSpace, training: TrainSpec, seed: int) -> str:
    """Key of a supernet training that starts from the dense training with key `dense`."""
    return _key(
        "supernet",
        {
            "dense": dense,
            "space": space.model_dump(mode="json"),
            "training": training.model_dump(mode="json"),
            "seed": seed,
        },
    )


def _hash_of(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read the weights file {path}: {error.strerror}") from error


def _key(kind: str, document: Mapping[str, object]) -> str:
    text = json.dumps({"version": _VERSION, "torch": torch.__version__, **document}, sort_keys=True)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


class TrainingCache:
    """A folder of finished trainings. It can be deleted at any time; the trainings are then repeated.

    Args:
        folder: Created when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, key: str) -> StoredTraining | None:
        """Return a finished training, or None if there is none; a corrupt file is removed and treated as missing."""
        path = self._folder / f"{key}.safetensors"
        if not path.is_file():
            return None
        try:
            tensors, document = read_tensors(path)
        except CheckpointError:
            path.unlink(missing_ok=True)
            return None
        history = document.get("history")
        if not isinstance(history, list) or not history:
            path.unlink()
            return None
        return StoredTraining(tensors, [(int(step), dict(metrics)) for step, metrics in history])

    def keep(self, key: str, tensors: Mapping[str, Tensor], *, history: Sequence[tuple[int, dict[str, float]]]) -> None:
        """Store a finished training."""
        document = {"history": [[step, metrics] for step, metrics in history]}
        write_tensors(self._folder / f"{key}.safetensors", tensors, metadata=document)
