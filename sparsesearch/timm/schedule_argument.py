"""Parse the `schedule` argument of sparse timm models, with what a recipe or a saved model says of its model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from timm.models import split_model_name_tag

from sparsesearch.artifacts.checkpoint import read_card, timm_config
from sparsesearch.artifacts.recipe import Recipe
from sparsesearch.artifacts.schedule_file import schedule_in
from sparsesearch.backbones.lookup import resolve_name
from sparsesearch.errors import BackboneError, ScheduleError, one_line
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.image_size import ImageSize
from sparsesearch.study.spec import read_document
from sparsesearch.value import Value

_RATE = re.compile(r"(?:rho=)?(\d*\.?\d+)")


class ScheduleArgument(Value):
    """A schedule, and the model that it was found for as far as this is known.

    Attributes:
        schedule: The schedule, or the keep ratio of the papers' hand-crafted schedule.
        source: Where it comes from, for error messages.
        backbone: Backbone name.
        num_classes: Classes of the head.
        in_chans: Image channels.
        image_size: Pixels.
        config: Entries of timm's `pretrained_cfg` that describe the input the model was trained with.
    """

    schedule: Schedule | float
    source: str = "the schedule"
    backbone: str | None = None
    num_classes: int | None = Field(default=None, ge=1)
    in_chans: int | None = Field(default=None, ge=1)
    image_size: ImageSize | None = None
    config: Mapping[str, Any] = Field(default_factory=dict)

    def check_backbone(self, name: str) -> None:
        """Check that the schedule was found for a model.

        Raises:
            BackboneError: It was found for another one.
        """
        if self.backbone is None:
            return
        try:
            found = resolve_name(self.backbone)
        except BackboneError:
            found = self.backbone
        found = split_model_name_tag(found)[0]
        if found != name:
            raise BackboneError(
                f"{self.source} is for {self.backbone}, not for {name}; create sparse_{found}, or give only its steps"
            )


def parse_schedule(argument: object) -> ScheduleArgument:
    """Read a schedule, and what is known of its model.

    Args:
        argument: A `Schedule`; a `Recipe`; a mapping with `steps`, or a recipe with `schedule`; the path of a file with
            either, or of a model saved by `retrain` or `import-checkpoint`; a keep ratio, as a number or as `rho=0.7`.

    Raises:
        ScheduleError: The argument is none of these.
        SpecError: The file is missing or contains no schedule.
        CheckpointError: The saved model is missing, corrupt, or has no schedule in its metadata.
    """
    if isinstance(argument, Schedule):
        return ScheduleArgument(schedule=argument)
    if isinstance(argument, Recipe):
        return _described(argument.model_dump(), argument.schedule, source="the recipe")
    if isinstance(argument, Mapping):
        found = argument.get("schedule", argument)
        if not isinstance(found, Schedule) and not (isinstance(found, Mapping) and "steps" in found):
            raise ScheduleError(
                f"invalid schedule: no key 'steps', got {', '.join(map(str, found)) or 'no keys'}; give the "
                "steps, or a recipe with a schedule"
            )
        try:
            return _described(argument, Schedule.model_validate(found), source="the recipe")
        except ValidationError as error:
            raise ScheduleError(f"invalid schedule: {one_line(error)}") from error
    if isinstance(argument, int | float) and not isinstance(argument, bool):
        return ScheduleArgument(schedule=float(argument))
    if isinstance(argument, str):
        rate = _RATE.fullmatch(argument.strip())
        return ScheduleArgument(schedule=float(rate[1])) if rate else _from_file(Path(argument))
    if isinstance(argument, Path):
        return _from_file(argument)
    raise ScheduleError(f'invalid schedule {argument!r}; give schedule="best.yaml", schedule="rho=0.7" or a Schedule')


def _from_file(path: Path) -> ScheduleArgument:
    if path.suffix == ".safetensors":
        card = read_card(path)
        return ScheduleArgument(
            schedule=card.schedule,
            source=str(path),
            backbone=card.backbone,
            num_classes=card.num_classes,
            in_chans=card.in_chans,
            image_size=card.image_size,
            config=timm_config(card),
        )
    document = read_document(path)
    return _described(document, schedule_in(document, path), source=str(path))


def _described(document: object, schedule: Schedule, *, source: str) -> ScheduleArgument:
    """The schedule of a recipe with the entries that describe its model, or of a document that has none of these."""
    if not isinstance(document, Mapping) or "schedule" not in document:
        return ScheduleArgument(schedule=schedule, source=source)
    told = {key: document.get(key) for key in ("backbone", "num_classes", "in_chans", "image_size")}
    try:
        return ScheduleArgument.model_validate({**told, "schedule": schedule, "source": source})
    except ValidationError as error:
        raise ScheduleError(f"invalid recipe {source}: {one_line(error)}") from error
