"""Save and load sparse models as one safetensors file that includes the schedule."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from sparsesearch.backbones.load_weights import load_weights_
from sparsesearch.backbones.registry import create_model
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.data.loading import Preprocessing
from sparsesearch.errors import CheckpointError, one_line
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.image_size import ImageSize, sides
from sparsesearch.study.spec import DataSpec
from sparsesearch.training.checkpoints import read_tensors, write_tensors
from sparsesearch.value import Value


class ImagePreprocessing(Value):
    """How an image file becomes the input of a model: resized, cropped at the centre, and normalised.

    Attributes:
        mean: Channel means, of pixels between 0 and 1.
        std: Channel standard deviations.
        interpolation: Name of the resize filter.
        crop_pct: Fraction of the resized image that is cropped.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float

    @classmethod
    def of(cls, files: Preprocessing) -> ImagePreprocessing:
        """The preprocessing of image files, with as many channels as the model has."""
        mean, std = files.mean[: files.in_chans], files.std[: files.in_chans]
        return cls(mean=mean, std=std, interpolation=files.interpolation, crop_pct=files.crop_pct)


class ModelCard(Value):
    """The metadata that is needed to rebuild a model from its file.

    Attributes:
        backbone: Backbone name.
        schedule: The sparsification schedule.
        num_classes: Classes of the head.
        in_chans: Image channels.
        image_size: Pixels.
        class_names: Names of the classes in the order of the logits; empty if unknown.
        preprocessing: Preprocessing in training, without augmentation; None if unknown.
        metrics: Test metrics in float32, accuracies as fractions; where a moving average was kept, those of the other
            weights too, as `average_...` or `trained_...`.
        macs: Multiply-adds of one image.
        dense_macs: Multiply-adds of one image through the dense model; None if unknown.
        data: The data that it was trained on; None if unknown.
        versions: Versions of the packages that wrote the file.
        weights_sha256: SHA-256 of the names, types, shapes and values of all weights.
        weights: `trained`, or `average` if these are the moving average of the weights over the training.
    """

    backbone: str
    schedule: Schedule
    num_classes: int
    in_chans: int
    image_size: ImageSize
    class_names: tuple[str, ...] = ()
    preprocessing: ImagePreprocessing | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    macs: int
    dense_macs: int | None = None
    data: DataSpec | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    weights_sha256: str = ""
    weights: Literal["trained", "average"] = "trained"


def save(model: nn.Module, path: str | Path, *, card: ModelCard) -> None:
    """Write a sparse model with its card, to which versions and the hash are added, into one safetensors file."""
    tensors = model.state_dict()
    card = stamped(card, tensors)
    write_tensors(Path(path), tensors, metadata=card.model_dump(mode="json"))


def stamped(card: ModelCard, tensors: Mapping[str, Tensor]) -> ModelCard:
    """A card with the versions of this program and the hash of these weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    versions = {name: version(name) for name in ("sparsesearch", "torch", "timm")}
    return card.model_copy(update={"versions": versions, "weights_sha256": digest.hexdigest()})


def load(path: str | Path) -> nn.Module:
    """Load a model that `sparsesearch retrain` or `import-checkpoint` saved, in eval mode.

    Args:
        path: The safetensors file.

    Returns:
        The timm model with its schedule applied; `model(images)` returns the same logits as when it was saved. Its
        `pretrained_cfg` is that of its training, so that `timm.data.resolve_model_data_config(model)` gives the
        preprocessing, and `model.pretrained_cfg["label_names"]` the classes where their names are known.

    Raises:
        CheckpointError: The file is missing, corrupt, or has no schedule in its metadata.
    """
    tensors, document = read_tensors(Path(path))
    card = _card(Path(path), document)
    model = create_model(
        card.backbone, num_classes=card.num_classes, in_chans=card.in_chans, image_size=card.image_size
    )
    sparsify_(model, card.schedule)
    load_weights_(model, tensors, source=str(path))
    configured: Any = model
    configured.pretrained_cfg = {**(getattr(model, "pretrained_cfg", None) or {}), **timm_config(card)}
    return model.eval()


def read_card(path: str | Path) -> ModelCard:
    """Read the metadata of a saved model.

    Raises:
        CheckpointError: As `load`.
    """
    return _card(Path(path), read_tensors(Path(path))[1])


def timm_config(card: ModelCard) -> dict[str, Any]:
    """The entries of timm's `pretrained_cfg` that a card determines."""
    config: dict[str, Any] = {
        "input_size": (card.in_chans, *sides(card.image_size)),
        "num_classes": card.num_classes,
    }
    if card.preprocessing is not None:
        config |= {**card.preprocessing.model_dump(), "crop_mode": "center"}
    if card.class_names:
        config["label_names"] = card.class_names
    return config


def _card(path: Path, document: dict[str, object]) -> ModelCard:
    if not document:
        raise CheckpointError(
            f"{path} has no schedule in its metadata; give a file written by sparsesearch retrain or import-checkpoint"
        )
    try:
        return ModelCard.model_validate(document)
    except ValidationError as error:
        raise CheckpointError(f"{path} has invalid metadata: {one_line(error)}") from error
