"""Initial weights of a dense model: pretrained, from a file, or from scratch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from sparsesearch.backbones.load_weights import load_weights_
from sparsesearch.backbones.registry import create_model
from sparsesearch.data.task import Task
from sparsesearch.training.checkpoints import read_foreign_weights
from sparsesearch.training.published_weights import HUB_TIMEOUT_S

_HEADS = ("head.", "aux_head.")


@dataclass(frozen=True)
class DenseStart:
    """A dense model before training.

    Attributes:
        model: The model, with a head for the classes of the task.
        has_head: Whether the weights include this head, so that the model needs no training.
    """

    model: nn.Module
    has_head: bool


def check_weights(weights: str, *, backbone: str, task: Task) -> None:
    """Check that a weights file can be read and fits the backbone, before anything is trained.

    Args:
        weights: As resolved.
        backbone: Resolved name.
        task: Determines the sizes of input and head.

    Raises:
        CheckpointError: The file cannot be read or belongs to another model.
    """
    if weights not in ("pretrained", "scratch"):
        dense_start(weights, backbone=backbone, task=task, seed=0)


def dense_start(weights: str, *, backbone: str, task: Task, seed: int) -> DenseStart:
    """Build the dense model.

    Args:
        weights: `pretrained`, `scratch` or a path; see `published_weights.resolve_weights`.
        backbone: Backbone name.
        task: Determines the sizes of input and head.
        seed: Seed of newly initialised weights.

    Raises:
        CheckpointError: The file does not fit the backbone.
    """
    if weights == "scratch":
        return DenseStart(_build(backbone, task, seed=seed), has_head=False)
    if weights == "pretrained":
        os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", str(int(HUB_TIMEOUT_S)))
        published = create_model(
            backbone, pretrained=True, in_chans=task.in_chans, image_size=task.image_size, seed=seed
        )
        if getattr(published, "num_classes", None) == task.num_classes:
            return DenseStart(published, has_head=True)
        return DenseStart(_build(backbone, task, seed=seed, pretrained=True), has_head=False)
    tensors = read_foreign_weights(Path(weights).expanduser())
    model = _build(backbone, task, seed=seed)
    return DenseStart(model, has_head=_load_foreign(model, tensors, source=weights))


def _build(backbone: str, task: Task, *, seed: int, pretrained: bool = False) -> nn.Module:
    return create_model(
        backbone,
        num_classes=task.num_classes,
        in_chans=task.in_chans,
        image_size=task.image_size,
        pretrained=pretrained,
        seed=seed,
    )


def _load_foreign(model: nn.Module, tensors: dict[str, Tensor], *, source: str) -> bool:
    """Load the weights, except for a head of another size; returns whether the head was loaded."""
    expected = model.state_dict()
    head = {name for name in expected if name.startswith(_HEADS)}
    fits = all(name in tensors and tensors[name].shape == expected[name].shape for name in head)
    usable = tensors if fits else {name: tensor for name, tensor in tensors.items() if name not in head}
    load_weights_(model, usable, source=source, optional=() if fits else _HEADS)
    return fits
