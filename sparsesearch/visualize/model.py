"""Open a sparse model with the best available weights, to inspect images with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from sparsesearch.artifacts.checkpoint import load
from sparsesearch.artifacts.model_reference import ModelReference
from sparsesearch.artifacts.recipe import Recipe
from sparsesearch.artifacts.trained import model_of
from sparsesearch.backbones.fit_weights import fit_weights
from sparsesearch.backbones.load_weights import load_weights_
from sparsesearch.backbones.lookup import is_small
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.data.inputs import preprocessing_for
from sparsesearch.data.loading import Preprocessing
from sparsesearch.errors import SpecError
from sparsesearch.schedule.image_size import as_image_size, size_text
from sparsesearch.schedule.methods import is_learned
from sparsesearch.study.spec import DataSpec
from sparsesearch.training.foreign_weights import read_foreign_weights
from sparsesearch.training.loop import PREDICTOR_PREFIX
from sparsesearch.training.published_weights import resolve_weights
from sparsesearch.visualize.inspect import inspect_images, read_images, validation_images
from sparsesearch.visualize.kept_tokens import ImageView

Trained = Callable[[], tuple[Mapping[str, Any], str] | None]
"""Weights of a study and a description of them; None if there are none."""

UNTRAINED_PREDICTORS = "the selection of untrained predictors, which is meaningless"
UNTRAINED = "the selection of an untrained model, which is meaningless"


@dataclass(frozen=True, eq=False)
class Inspection:
    """A sparse model that is ready to inspect images.

    Attributes:
        reference: Backbone and schedule.
        model: The sparse model.
        preprocessing: Preprocessing of its images.
        data: The data it was trained on; None if unknown.
        weights: Description of its weights.
        caption: Warning to show with every figure, or None.
        note: Message for the user, or None.
    """

    reference: ModelReference
    model: nn.Module
    preprocessing: Preprocessing
    data: DataSpec | None
    weights: str
    caption: str | None = None
    note: str | None = None

    def of_files(self, paths: Sequence[Path]) -> list[ImageView]:
        """Inspect image files.

        Raises:
            DataError: A file is missing, is not an image, or is too small.
        """
        shape = self.reference.geometry
        patch = max(1, shape.image_size[0] // shape.stages[0].grid[0])
        images = read_images(paths, self.preprocessing, min_pixels=patch)
        return inspect_images(self.model, images, names=[path.name for path in paths], preprocessing=self.preprocessing)

    def of_validation(self, count: int) -> list[ImageView]:
        """Inspect validation images of the data.

        Raises:
            SpecError: The data is unknown.
            DataError: It cannot be read.
        """
        if self.data is None:
            raise SpecError(
                "no images given, and only a recipe records its data; "
                "name images, for example: visualize model.safetensors cat.jpg"
            )
        data = self.data.model_copy(update={"image_size": self.preprocessing.image_size})
        images = validation_images(data, backbone=self.reference.backbone, count=count)
        return inspect_images(self.model, images, names=[""] * len(images), preprocessing=self.preprocessing)


def open_inspection(
    reference: ModelReference,
    *,
    model_file: Path | None = None,
    recipe: Recipe | None = None,
    weights: str | None = None,
    trained: Trained | None = None,
) -> Inspection:
    """Open a sparse model with the best available weights: of a file, of the recipe's study, published, or untrained.

    Args:
        reference: Backbone and schedule.
        model_file: The saved model that the reference was read from, if any.
        recipe: The recipe that it was read from, if any.
        weights: `pretrained`, `scratch` or a path; None for the best available.
        trained: Returns the weights of the recipe's study.

    Raises:
        SpecError: The schedule keeps all tokens, or the image size does not match.
        CheckpointError: The weights do not fit.
    """
    if not reference.schedule.resolve(reference.geometry):
        raise SpecError(
            "the schedule keeps all tokens, so there is nothing to show; give one that drops some, such as --rho 0.7"
        )
    data = _data(reference, recipe)
    preprocessing = preprocessing_for(
        reference.backbone,
        data or DataSpec(source="folder:."),
        in_chans=reference.in_chans,
        image_size=reference.image_size,
    )
    if model_file is not None and weights is None:
        model: Any = load(model_file)
        expected = model.sparsity.geometry.image_size
        if reference.geometry.image_size != expected:
            size = size_text(as_image_size(expected))
            raise SpecError(f"{model_file} expects images of {size} pixels; omit --image-size")
        return Inspection(reference, model, preprocessing, data, f"weights of {model_file}")
    found = None if trained is None else trained()
    if found is not None:
        return Inspection(reference, model_of(reference, found[0]), preprocessing, data, found[1])
    if weights is not None and weights not in ("pretrained", "scratch"):
        return _from_file(reference, Path(weights), preprocessing=preprocessing, data=data)
    requested = weights or (recipe.weights if recipe is not None else "pretrained")
    source, line = resolve_weights(
        requested if requested == "scratch" else "pretrained",
        backbone=reference.backbone,
        or_scratch=weights is None,
    )
    model = reference.dense_model(pretrained=source == "pretrained")
    sparsify_(model, reference.schedule)
    caption = _caption(reference, is_pretrained=source == "pretrained")
    why = "" if trained is None else "the weights of the recipe's study are not on this machine; "
    note = (
        None if caption is None else f"{why}{line.partition('; training')[0] + '; ' if line else ''}this is {caption}"
    )
    return Inspection(reference, model.eval(), preprocessing, data, f"{source} weights", caption, note)


def _from_file(
    reference: ModelReference, path: Path, *, preprocessing: Preprocessing, data: DataSpec | None
) -> Inspection:
    """A model with the weights of a file: of a sparse model, or of a dense one without predictors."""
    read = read_foreign_weights(path)
    model = reference.dense_model()
    sparsify_(model, reference.schedule)
    blocks = [step.block for step in reference.schedule.steps if is_learned(step.scorer)]
    tensors = fit_weights(model, read.tensors, source=read.source, blocks=blocks, needs_head=True).tensors
    missing = load_weights_(model, tensors, source=read.source, optional=(PREDICTOR_PREFIX,), allow_unused=True)
    caption = UNTRAINED_PREDICTORS if missing else None
    return Inspection(
        reference,
        model.eval(),
        preprocessing,
        data,
        f"weights of {path}",
        caption,
        caption and f"{path}: this is {caption}",
    )


def _caption(reference: ModelReference, *, is_pretrained: bool) -> str | None:
    """The warning for untrained weights; None if there is nothing to warn about."""
    if any(is_learned(step.scorer) for step in reference.schedule.steps):
        return UNTRAINED_PREDICTORS
    return None if is_pretrained else UNTRAINED


def _data(reference: ModelReference, recipe: Recipe | None) -> DataSpec | None:
    """The data the model was trained on: that of its recipe, or the demo for small single-channel backbones."""
    if recipe is not None:
        return recipe.data
    return DataSpec() if is_small(reference.backbone) and reference.in_chans in (None, 1) else None
