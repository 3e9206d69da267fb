"""A sparse model with the best weights there are, ready to look at images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sparsesearch.artifacts.checkpoint import load
from sparsesearch.artifacts.model_reference import ModelReference
from sparsesearch.artifacts.recipe import Recipe
from sparsesearch.artifacts.trained import model_of
from sparsesearch.backbones.bundled import is_small
from sparsesearch.backbones.load_weights import load_weights_
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.data.loading import Preprocessing
from sparsesearch.errors import SpecError
from sparsesearch.schedule.methods import is_learned
from sparsesearch.study.spec import DataSpec
from sparsesearch.training.checkpoints import read_foreign_weights
from sparsesearch.training.loop import PREDICTOR_PREFIX
from sparsesearch.training.weights import resolve_weights
from sparsesearch.visualize.inspect import look, preprocessing_for, read_images, validation_images
from sparsesearch.visualize.kept_tokens import ImageView

Trained = Callable[[], tuple[Mapping[str, Any], str] | None]
"""Weights of a study, and whose they are; None if there are none."""

UNTRAINED_PREDICTORS = "the choice of untrained predictors: it says nothing"
UNTRAINED = "the choice of an untrained model: it says nothing"


@dataclass(frozen=True, eq=False)
class Inspection:
    """A model that can be looked through.

    Attributes:
        reference: What it is.
        model: The sparse model.
        wanted: How its images are made ready.
        data: What it was trained on, None if that is not known.
        weights: Whose weights it has, for people.
        caption: A warning that belongs below every picture, or None.
        note: A line for people, or None.
    """

    reference: ModelReference
    model: nn.Module
    wanted: Preprocessing
    data: DataSpec | None
    weights: str
    caption: str | None = None
    note: str | None = None

    def of_files(self, paths: Sequence[Path]) -> list[ImageView]:
        """Look at image files.

        Raises:
            DataError: A file is missing, is no image, or is too small.
        """
        shape = self.reference.geometry
        patch = max(1, shape.image_size[0] // shape.stages[0].grid[0])
        images = read_images(paths, self.wanted, least_pixels=patch)
        return look(self.model, images, names=[path.name for path in paths], wanted=self.wanted)

    def of_validation(self, count: int) -> list[ImageView]:
        """Look at validation images of the data.

        Raises:
            SpecError: The data is not known.
            DataError: It cannot be read.
        """
        if self.data is None:
            raise SpecError("name images: visualize model.safetensors cat.jpg (only a recipe knows its own data)")
        images = validation_images(self.data, backbone=self.reference.backbone, count=count)
        return look(self.model, images, names=[""] * len(images), wanted=self.wanted)


def open_inspection(
    reference: ModelReference,
    *,
    model_file: Path | None = None,
    recipe: Recipe | None = None,
    weights: str | None = None,
    trained: Trained | None = None,
) -> Inspection:
    """Find the best weights there are: those of a file, of the recipe's study, published ones, or none.

    Args:
        reference: Backbone and schedule.
        model_file: The saved model that the reference is from, if it is.
        recipe: The recipe that it is from, if it is.
        weights: `pretrained`, `scratch` or a path, to have no others.
        trained: Looks for the weights of the recipe's study.

    Raises:
        ScheduleError: The schedule drops nothing.
        CheckpointError: The weights do not fit.
    """
    if not reference.schedule.resolve(reference.geometry):
        raise SpecError("the schedule keeps all tokens, so there is nothing to see; give one with --rho 0.7")
    data = _data(reference, recipe)
    wanted = preprocessing_for(
        reference.backbone,
        data or DataSpec(source="folder:."),
        in_chans=reference.in_chans,
        image_size=reference.image_size,
    )
    if model_file is not None and weights is None:
        model = load(model_file)
        if reference.image_size != wanted.image_size:
            raise SpecError(f"{model_file} takes {reference.image_size} pixels; leave --image-size out")
        return Inspection(reference, model, wanted, data, f"weights of {model_file}")
    found = None if trained is None else trained()
    if found is not None:
        return Inspection(reference, model_of(reference, found[0]), wanted, data, found[1])
    if weights is not None and weights not in ("pretrained", "scratch"):
        return _from_file(reference, Path(weights), wanted=wanted, data=data)
    asked = weights or (recipe.weights if recipe is not None else "pretrained")
    source, line = resolve_weights(asked if asked == "scratch" else "pretrained", backbone=reference.backbone)
    model = reference.dense_model(pretrained=source == "pretrained")
    sparsify_(model, reference.schedule)
    caption = _caption(reference, is_pretrained=source == "pretrained")
    why = "" if trained is None else "the weights of the recipe's study are not on this machine; "
    said = (
        None if caption is None else f"{why}{line.partition('; training')[0] + '; ' if line else ''}this is {caption}"
    )
    return Inspection(reference, model.eval(), wanted, data, f"{source} weights", caption, said)


def _from_file(reference: ModelReference, path: Path, *, wanted: Preprocessing, data: DataSpec | None) -> Inspection:
    """Weights of any file: a sparse model's, or a dense one's without predictors."""
    tensors: dict[str, Tensor] = read_foreign_weights(path)
    model = reference.dense_model()
    sparsify_(model, reference.schedule)
    loaded = load_weights_(model, tensors, source=str(path), optional=(PREDICTOR_PREFIX,), allow_unused=True)
    caption = UNTRAINED_PREDICTORS if loaded.missing else None
    return Inspection(
        reference, model.eval(), wanted, data, f"weights of {path}", caption, caption and f"{path}: this is {caption}"
    )


def _caption(reference: ModelReference, *, is_pretrained: bool) -> str | None:
    """What has to be said of a choice without training."""
    if any(is_learned(step.scorer) for step in reference.schedule.steps):
        return UNTRAINED_PREDICTORS
    return None if is_pretrained else UNTRAINED


def _data(reference: ModelReference, recipe: Recipe | None) -> DataSpec | None:
    """What the model was trained on: as its recipe says; only the demo has small backbones of one channel."""
    if recipe is not None:
        return recipe.data
    return DataSpec() if is_small(reference.backbone) and reference.in_chans in (None, 1) else None
