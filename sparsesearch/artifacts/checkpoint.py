"""Save and load sparse models as one safetensors file that includes the schedule."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError
from torch import nn

from sparsesearch.backbones.load_weights import load_weights_
from sparsesearch.backbones.registry import create_model
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.errors import CheckpointError, one_line
from sparsesearch.schedule import Schedule
from sparsesearch.training.checkpoints import read_tensors, write_tensors
from sparsesearch.value import Value


class ModelCard(Value):
    """The metadata that is needed to rebuild a model from its file.

    Attributes:
        backbone: Backbone name.
        schedule: The sparsification schedule.
        num_classes: Classes of the head.
        in_chans: Image channels.
        image_size: Pixels.
        metrics: Test metrics, accuracies as fractions.
        macs: Multiply-adds of one image.
    """

    backbone: str
    schedule: Schedule
    num_classes: int
    in_chans: int
    image_size: int
    metrics: dict[str, float] = Field(default_factory=dict)
    macs: int


def save(model: nn.Module, path: str | Path, *, card: ModelCard) -> None:
    """Write a sparse model with its card into one safetensors file."""
    write_tensors(Path(path), model.state_dict(), metadata=card.model_dump(mode="json"))


def load(path: str | Path) -> nn.Module:
    """Load a model that `sparsesearch retrain` or `import-checkpoint` saved, in eval mode.

    Args:
        path: The safetensors file.

    Returns:
        The timm model with its schedule applied; `model(images)` returns the same logits as when it was saved.

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
    return model.eval()


def read_card(path: str | Path) -> ModelCard:
    """Read the metadata of a saved model.

    Raises:
        CheckpointError: As `load`.
    """
    return _card(Path(path), read_tensors(Path(path))[1])


def _card(path: Path, document: dict[str, object]) -> ModelCard:
    if not document:
        raise CheckpointError(
            f"{path} has no schedule in its metadata; give a file written by sparsesearch retrain or import-checkpoint"
        )
    try:
        return ModelCard.model_validate(document)
    except ValidationError as error:
        raise CheckpointError(f"{path} has invalid metadata: {one_line(error)}") from error
