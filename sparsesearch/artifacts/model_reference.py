"""References to sparse models: a file, or a backbone with a schedule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sparsesearch.artifacts.recipe import Recipe, read_recipe
from sparsesearch.artifacts.schedule_file import read_schedule
from sparsesearch.backbones.lookup import backbone_geometry, resolve_name
from sparsesearch.errors import ScheduleError, SpecError
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.image_size import ImageSize, as_image_size
from sparsesearch.study.spec import read_document
from sparsesearch.text import parse_counts, parse_numbers

if TYPE_CHECKING:
    from torch import nn

DENSE = Schedule()


@dataclass(frozen=True)
class ModelReference:
    """A reference to a sparse model: a backbone with its head and input, and a schedule.

    Attributes:
        backbone: Resolved backbone name.
        schedule: The schedule.
        num_classes: Classes of the head, None for the backbone's own.
        in_chans: Image channels, None for the backbone's own.
        image_size: Pixels, None for the backbone's own.
    """

    backbone: str
    schedule: Schedule = DENSE
    num_classes: int | None = None
    in_chans: int | None = None
    image_size: ImageSize | None = None

    def dense_model(self, *, seed: int = 0, pretrained: bool = False) -> nn.Module:
        """Create the dense model.

        Args:
            seed: Seed for the initialization of weights that are not loaded.
            pretrained: Whether to load published weights.
        """
        from sparsesearch.backbones.registry import create_model  # loads torch

        return create_model(
            self.backbone,
            num_classes=self.num_classes,
            in_chans=self.in_chans,
            image_size=self.image_size,
            pretrained=pretrained,
            seed=seed,
        )

    @cached_property
    def geometry(self) -> BackboneGeometry:
        """Geometry of the backbone, found without allocating weights."""
        return backbone_geometry(
            self.backbone, num_classes=self.num_classes, in_chans=self.in_chans, image_size=self.image_size
        )


def find_model(
    *,
    backbone: str | None = None,
    schedule: Path | None = None,
    rho: float | None = None,
    at: str = "",
    keep: str = "",
    image_size: ImageSize | None = None,
) -> ModelReference:
    """Find the model that `--backbone`, `--schedule`, `--rho`, `--at` and `--keep` select.

    Args:
        backbone: Backbone name; required unless the file names one.
        schedule: A recipe, a model that was saved with its schedule (`.safetensors`), or steps as YAML or JSON.
        rho: Keep ratio of the papers' schedule.
        at: Comma-separated blocks.
        keep: Comma-separated fractions of the initial tokens, kept from each block on.
        image_size: Pixels; by default those of the backbone or the file.

    Raises:
        SpecError: No backbone or several schedules are given, or the file cannot be read.
        BackboneError: The backbone is unknown or unsupported.
        ScheduleError: The schedule does not fit the backbone.
    """
    if sum((schedule is not None, rho is not None, bool(at or keep))) > 1:
        raise SpecError("several schedules given; use one of --schedule FILE, --rho, or --at with --keep")
    if schedule is not None:
        found = _from_file(schedule, backbone=backbone)
    elif backbone is None:
        raise SpecError("no model given; use --backbone deit_s or --schedule best.yaml")
    else:
        found = ModelReference(resolve_name(backbone))
    if image_size is not None:
        found = _with(found, image_size=as_image_size(image_size))
    if rho is not None:
        found = _with(found, schedule=paper_schedule(found.geometry, rho))
    elif at or keep:
        try:
            blocks = parse_counts(at, what="--at", least=0)
        except SpecError as error:
            raise ScheduleError(str(error)) from error
        found = _with(found, schedule=Schedule.at(blocks, parse_numbers(keep, what="--keep")))
    found.schedule.resolve(found.geometry)
    return found


def read_recipe_of(path: Path) -> Recipe | None:
    """Read the recipe in a file, None if the file contains something else."""
    if path.suffix == ".safetensors":
        return None
    document = read_document(path, allow_nan=True)
    return read_recipe(path) if isinstance(document, dict) and "steps" not in document else None


def _from_file(path: Path, *, backbone: str | None) -> ModelReference:
    """Return the model in a file, or its schedule on another backbone."""
    if path.suffix == ".safetensors":
        from sparsesearch.artifacts.checkpoint import read_card  # loads torch

        card = read_card(path)
        if backbone is not None:
            return ModelReference(resolve_name(backbone), card.schedule)
        return ModelReference(card.backbone, card.schedule, card.num_classes, card.in_chans, card.image_size)
    document = read_document(path, allow_nan=True)
    if backbone is not None:
        return ModelReference(resolve_name(backbone), read_schedule(path))
    if isinstance(document, dict) and "steps" in document:
        raise SpecError(f"{path} contains steps but no backbone; give one with --backbone")
    recipe = read_recipe(path)
    return ModelReference(
        resolve_name(recipe.backbone), recipe.schedule, recipe.num_classes, recipe.in_chans, recipe.image_size
    )


def _with(
    reference: ModelReference, *, schedule: Schedule | None = None, image_size: ImageSize | None = None
) -> ModelReference:
    return ModelReference(
        reference.backbone,
        schedule or reference.schedule,
        reference.num_classes,
        reference.in_chans,
        image_size or reference.image_size,
    )
