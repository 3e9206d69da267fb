"""Finished trainings that studies share: dense teachers and supernet weights, keyed by what went into them."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from sparsesearch.errors import CheckpointError
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.study.metric import VAL_TOP1
from sparsesearch.study.spec import TrainSpec
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.checkpoints import read_tensors, set_aside, write_tensors
from sparsesearch.training.published_weights import weights_identity

logger = logging.getLogger(__name__)

_VERSION = 4
_LOSS, _IMAGES = "val_loss", "val_images"
_EQUAL = 1e-6  # of the loss, and of accuracies, on the CPU that the weights were trained on
_ACCURACY_TOLERANCE, _LOSS_TOLERANCE = 0.005, 0.02  # elsewhere: a fraction of the images, a fraction of the loss
_STANDARD_ERRORS = 4.0  # of the accuracy, between different numbers of images


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
    backbone: str,
    geometry: BackboneGeometry,
    num_classes: int,
    weights: str,
    data_fingerprint: str,
    training: TrainSpec,
    seed: int,
    arithmetic: Arithmetic,
) -> str:
    """Key of a dense training: equal inputs give equal weights.

    Raises:
        CheckpointError: The weights file cannot be read.
    """
    return _key(
        "dense",
        {
            "backbone": backbone,
            "geometry": geometry.model_dump(mode="json"),
            "num_classes": num_classes,
            "weights": weights_identity(backbone, weights),
            "data": data_fingerprint,
            "training": training.model_dump(mode="json"),
            "seed": seed,
            "dtype": str(arithmetic.dtype),
            "device": arithmetic.device.type,
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


def machine_kind(device: torch.device) -> str:
    """What the last bits of a result depend on: the GPU, or the instructions and the threads of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def difference(recorded: Mapping[str, float], measured: Mapping[str, float], *, is_same_cpu: bool) -> str | None:
    """How metrics that were measured again contradict the recorded ones, None if they agree.

    On the CPU of the training, both must be equal. Elsewhere, accuracies may differ by half a percent and two images,
    and losses by 2 %; accuracies on different numbers of images, by four standard errors.
    """
    images = (recorded.get(_IMAGES, 0.0), measured.get(_IMAGES, 0.0))
    names, tolerances = [VAL_TOP1.name], {VAL_TOP1.name: _ACCURACY_TOLERANCE + 2.0 / max(1.0, images[1])}
    if images[0] == images[1]:
        names.append(_LOSS)
        tolerances[_LOSS] = _LOSS_TOLERANCE * abs(recorded.get(_LOSS, math.nan))
        if is_same_cpu:
            tolerances = {name: _EQUAL * max(1.0, abs(recorded.get(name, math.nan))) for name in names}
    else:
        tolerances[VAL_TOP1.name] += _STANDARD_ERRORS * 0.5 / math.sqrt(max(1.0, min(images)))
    for name in names:
        was, found = recorded.get(name, math.nan), measured.get(name, math.nan)
        if not abs(was - found) <= tolerances[name]:
            return f"their {name} is {found:.4f}, and {was:.4f} was recorded"
    return None


def _key(kind: str, document: Mapping[str, object]) -> str:
    code = {"version": _VERSION, "torch": torch.__version__, "timm": version("timm")}
    text = json.dumps({**code, **document}, sort_keys=True)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


class TrainingCache:
    """A folder of finished trainings. It can be deleted at any time; the trainings are then repeated.

    Args:
        folder: Created when first needed.
        report: Receives a line for each training that cannot be used.
    """

    def __init__(self, folder: Path, *, report: Callable[[str], None] = logger.warning) -> None:
        self._folder = folder
        self._report = report

    def find(
        self, key: str, *, measure: Callable[[Mapping[str, Tensor]], Mapping[str, float]], device: torch.device
    ) -> StoredTraining | None:
        """Return a finished training that still gives the recorded metrics; None if the cache has no such training.

        A file that is damaged, belongs to another key, does not fit the model, or does not reach the recorded metrics
        is reported, set aside and treated as missing.

        Args:
            key: The result of `dense_key` or `supernet_key`.
            measure: Returns the validation metrics of the weights; raises `CheckpointError` if they do not fit.
            device: The device it measures on.

        Returns:
            The training; its last metrics are those that were measured now.
        """
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            tensors, document = read_tensors(path)
            history = _history(document, key=key)
            *earlier, (last, recorded) = history
            measured = measure(tensors)
        except CheckpointError as error:
            self._reject(path, str(error))
            return None
        is_same_cpu = device.type == "cpu" and document.get("machine") == machine_kind(device)
        problem = difference(recorded, measured, is_same_cpu=is_same_cpu)
        if problem is not None:
            self._reject(path, f"the weights in {path} are not those that were recorded: {problem}")
            return None
        return StoredTraining(tensors, [*earlier, (last, {**recorded, **measured})])

    def has(self, key: str) -> bool:
        """Whether the cache has a training, which `find` may still reject."""
        return self._path(key).is_file()

    def keep(
        self,
        key: str,
        tensors: Mapping[str, Tensor],
        *,
        history: Sequence[tuple[int, dict[str, float]]],
        device: torch.device,
    ) -> None:
        """Store a finished training."""
        document = {
            "key": key,
            "machine": machine_kind(device),
            "history": [[step, metrics] for step, metrics in history],
        }
        write_tensors(self._path(key), tensors, metadata=document, is_private=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.safetensors"

    def _reject(self, path: Path, why: str) -> None:
        self._report(f"{why}; {set_aside(path)}, and the training is repeated")


def _history(document: Mapping[str, object], *, key: str) -> list[tuple[int, dict[str, float]]]:
    """The history of a stored training.

    Raises:
        CheckpointError: The document is not that of the key.
    """
    history = document.get("history")
    if document.get("key") != key or not isinstance(history, list) or not history:
        raise CheckpointError(f"the cached training {key} is that of another key or has no history")
    return [(int(step), dict(metrics)) for step, metrics in history]
