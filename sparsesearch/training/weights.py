"""Initial weights of a dense model: published, from a file, or from scratch; and what is loaded, in one line."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from sparsesearch.backbones.fit_weights import FittedWeights, fit_weights, head_prefixes
from sparsesearch.backbones.load_weights import check_finite
from sparsesearch.backbones.reference_keys import num_predictors
from sparsesearch.backbones.registry import create_model
from sparsesearch.data.task import Task
from sparsesearch.errors import CheckpointError
from sparsesearch.files.user_path import user_path
from sparsesearch.schedule.image_size import size_text
from sparsesearch.training.foreign_weights import ForeignWeights, read_foreign_weights
from sparsesearch.training.published_weights import HUB_TIMEOUT_S, PublishedWeights


@dataclass(frozen=True)
class DenseStart:
    """A dense model before training.

    Attributes:
        model: The model, with a head for the classes of the task.
        has_head: Whether the weights include this head, so that the model needs no training.
        loaded: What was loaded, in one line.
    """

    model: nn.Module
    has_head: bool
    loaded: str


class CheckedWeights(NamedTuple):
    """Initial weights that fit.

    Attributes:
        loaded: What is loaded, in one line.
        has_head: Whether they include the head for the classes of the task, so that the model needs no training.
    """

    loaded: str
    has_head: bool


def check_weights(weights: str, *, backbone: str, task: Task) -> CheckedWeights:
    """Check that weights can be read and fit the backbone, before anything is trained.

    Args:
        weights: As resolved.
        backbone: Resolved name.
        task: Determines the sizes of input and head.

    Raises:
        CheckpointError: The weights cannot be read, or belong to another model.
    """
    if weights == "scratch":
        return CheckedWeights(_scratch_line(backbone), has_head=False)
    start = dense_start(weights, backbone=backbone, task=task, seed=0)
    return CheckedWeights(start.loaded, start.has_head)


def dense_start(weights: str, *, backbone: str, task: Task, seed: int) -> DenseStart:
    """Build the dense model.

    Args:
        weights: `pretrained`, `scratch` or a path; see `published_weights.resolve_weights`.
        backbone: Backbone name.
        task: Determines the sizes of input and head.
        seed: Seed of newly initialised weights.

    Raises:
        CheckpointError: The weights cannot be read, or do not fit the backbone.
    """
    if weights == "scratch":
        return DenseStart(_build(backbone, task, seed=seed), has_head=False, loaded=_scratch_line(backbone))
    if weights == "pretrained":
        return _published(backbone, task, seed=seed)
    read = read_foreign_weights(user_path(weights, error=CheckpointError))
    model = _build(backbone, task, seed=seed)
    fitted = fit_dense(model, read, backbone=backbone)
    fitted.load_into(model)
    return DenseStart(model, has_head=fitted.head is None, loaded=f"weights: {fitted.describe()}")


def fit_dense(model: nn.Module, read: ForeignWeights, *, backbone: str) -> FittedWeights:
    """Fit the weights of a file to a dense model.

    Args:
        model: The model.
        read: The weights.
        backbone: Its name, for messages.

    Raises:
        CheckpointError: They are of a sparse model.
    """
    found = num_predictors(read.tensors)
    if found:
        raise CheckpointError(
            f"{read.source} has {found} predictors, so it is a sparse {backbone}; convert it with sparsesearch "
            "import-checkpoint, and give the weights of a dense model here"
        )
    return fit_weights(model, read.tensors, source=read.source, outside=read.outside)


def _published(backbone: str, task: Task, *, seed: int) -> DenseStart:
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", str(int(HUB_TIMEOUT_S)))
    model = _build(backbone, task, seed=seed, pretrained=True)
    published = PublishedWeights.of(backbone)
    check_finite(model, source=f"published weights {published.name}")
    names = list(model.state_dict())
    kept = [name for name in names if not name.startswith(head_prefixes(model))]
    has_head = published.num_classes == task.num_classes
    parts = [f"weights: {published.name} of timm, {len(names if has_head else kept)} of {len(names)} tensors"]
    if published.image_size != task.image_size:
        old, new = size_text(published.image_size), size_text(task.image_size)
        parts.append(f"made for images of {old} pixels, used at {new}")
    if published.in_chans != task.in_chans:
        parts.append(f"first convolution adapted {published.in_chans} -> {task.in_chans} channels")
    if not has_head:
        parts.append(f"head left out ({published.num_classes} -> {task.num_classes} classes)")
    return DenseStart(model, has_head=has_head, loaded="; ".join(parts))


def _build(backbone: str, task: Task, *, seed: int, pretrained: bool = False) -> nn.Module:
    return create_model(
        backbone,
        num_classes=task.num_classes,
        in_chans=task.in_chans,
        image_size=task.image_size,
        pretrained=pretrained,
        seed=seed,
    )


def _scratch_line(backbone: str) -> str:
    return f"weights: none, {backbone} is trained from scratch"
