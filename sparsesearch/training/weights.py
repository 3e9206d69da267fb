"""Where a dense model starts: pretrained weights, a file, or scratch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import timm
from torch import Tensor, nn

from sparsesearch.backbones.load_weights import load_weights_
from sparsesearch.backbones.registry import create_model
from sparsesearch.data.inputs import has_pretrained
from sparsesearch.data.task import Task
from sparsesearch.training.checkpoints import read_foreign_weights

_HUB_TIMEOUT_S = 5.0
_HEADS = ("head.", "aux_head.")


@dataclass(frozen=True)
class DenseStart:
    """A dense model before any training of ours.

    Attributes:
        model: The model, its head sized for the task.
        has_head: Whether its classifier came with the weights, so that it should work already.
    """

    model: nn.Module
    has_head: bool


def resolve_weights(weights: str, *, backbone: str, ask_hub: bool = True) -> tuple[str, str | None]:
    """What `--weights` really means now, and a line to show if that is not what was asked for.

    `pretrained` becomes `scratch` for a backbone without published weights, and when they are not in the local cache
    and the hub does not answer within seconds. A path becomes absolute.

    Args:
        weights: `pretrained`, `scratch` or a path.
        backbone: Resolved name.
        ask_hub: Whether to see if the hub answers; if not, it is taken to.

    Returns:
        (`pretrained`, `scratch` or a path; a line for people or None)
    """
    if weights == "scratch":
        return weights, None
    if weights != "pretrained":
        return str(Path(weights).expanduser().absolute()), None
    if not has_pretrained(backbone):
        return "scratch", None
    if not ask_hub or _is_cached(backbone):
        return "pretrained", None
    reason = _hub_unreachable()
    if reason is None:
        return "pretrained", None
    return "scratch", (
        f"pretrained weights of {backbone} cannot be had ({reason}); training from scratch. "
        "Give a file with --weights PATH, or say --weights scratch to silence this."
    )


def _is_cached(backbone: str) -> bool:
    """Whether the published weights lie on this machine already."""
    from huggingface_hub import try_to_load_from_cache

    repository = getattr(timm.get_pretrained_cfg(backbone), "hf_hub_id", None)
    if not isinstance(repository, str):
        return False
    return isinstance(try_to_load_from_cache(repository, "model.safetensors"), str)


def _hub_unreachable() -> str | None:
    """Why the weights hub cannot be used, or None if it answers."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=_HUB_TIMEOUT_S)
    except Exception as error:  # whatever the HTTP library raises, the hub is not to be had
        return f"the weights hub does not answer: {type(error).__name__}"
    return None


def check_weights(weights: str, *, backbone: str, task: Task) -> None:
    """See that a weights file can be read and fits, before anything is trained.

    Args:
        weights: As resolved.
        backbone: Resolved name.
        task: Sizes of input and head.

    Raises:
        CheckpointError: It cannot be read, or is of another model.
    """
    if weights not in ("pretrained", "scratch"):
        dense_start(weights, backbone=backbone, task=task, seed=0)


def dense_start(weights: str, *, backbone: str, task: Task, seed: int) -> DenseStart:
    """Build the dense model.

    Args:
        weights: `pretrained`, `scratch` or a path; see `resolve_weights`.
        backbone: Backbone name.
        task: Sizes of input and head.
        seed: Seed of whatever is initialised.

    Raises:
        CheckpointError: The file does not fit the backbone.
    """
    if weights == "scratch":
        return DenseStart(_build(backbone, task, seed=seed), has_head=False)
    if weights == "pretrained":
        os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", str(int(_HUB_TIMEOUT_S)))
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
    """Load all but a head of another size; returns whether the head came along."""
    expected = model.state_dict()
    head = {name for name in expected if name.startswith(_HEADS)}
    fits = all(name in tensors and tensors[name].shape == expected[name].shape for name in head)
    usable = tensors if fits else {name: tensor for name, tensor in tensors.items() if name not in head}
    load_weights_(model, usable, source=source, optional=() if fits else _HEADS)
    return fits
