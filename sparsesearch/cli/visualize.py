"""`visualize`: plot which tokens a schedule keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsesearch.artifacts.output_files import check_output_file
from sparsesearch.cli.model_argument import (
    AtOption,
    BackboneOption,
    ImageSizeOption,
    KeepOption,
    RhoOption,
    ScheduleOption,
)
from sparsesearch.cli.options import DatabaseOption, json_option, open_settings
from sparsesearch.cli.progress_option import OUTPUT_PANEL
from sparsesearch.console.plain import PlainReporter
from sparsesearch.console.streams import say
from sparsesearch.errors import SpecError
from sparsesearch.text import counted

if TYPE_CHECKING:
    from sparsesearch.visualize.kept_tokens import ImageView
    from sparsesearch.visualize.model import Inspection

_MODELS = (".yaml", ".yml", ".json", ".safetensors")
_ENDINGS = (".png", ".pdf", ".svg")


def visualize(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[MODEL] [IMAGE]...", help="best.yaml or model.safetensors, followed by images."),
    ] = None,
    backbone: BackboneOption = None,
    schedule: ScheduleOption = None,
    rho: RhoOption = None,
    at: AtOption = "",
    keep: KeepOption = "",
    image_size: ImageSizeOption = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Weights: a file, pretrained or scratch. [default: the best available]"),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=32, help="Number of validation images, if no image is given.")] = 4,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Output file: .png, .pdf or .svg.", rich_help_panel=OUTPUT_PANEL)
    ] = Path("kept.png"),
    database: DatabaseOption = None,
    as_json: Annotated[bool, json_option(OUTPUT_PANEL)] = False,
) -> None:
    """Plot which tokens of an image a sparse model keeps, step by step.

    Takes a recipe (with its study's weights, if they are on this machine), a trained model, or a backbone with a
    schedule. Without images, a few validation images of the recipe's data are shown.

    For example:

    sparsesearch visualize best.yaml cat.jpg dog.jpg -o kept.png

    sparsesearch visualize model.safetensors cat.jpg

    sparsesearch visualize --backbone deit_s --rho 0.7 cat.jpg
    """
    images = list(files or [])
    if schedule is None and images and images[0].suffix.lower() in _MODELS:
        schedule = images.pop(0)
    if output.suffix.lower() not in _ENDINGS:
        raise SpecError(f"invalid output file {output}; use a name that ends in .png, .pdf or .svg")
    check_output_file(output)

    from sparsesearch.app.study_weights import study_weights
    from sparsesearch.artifacts.model_reference import find_model, read_recipe_of
    from sparsesearch.visualize.kept_tokens import save_kept_tokens  # takes seconds to load
    from sparsesearch.visualize.model import open_inspection

    reference = find_model(backbone=backbone, schedule=schedule, rho=rho, at=at, keep=keep, image_size=image_size)
    recipe = None if schedule is None or backbone is not None else read_recipe_of(schedule)
    settings, store = open_settings(database)
    inspection = open_inspection(
        reference,
        model_file=schedule if schedule is not None and schedule.suffix == ".safetensors" else None,
        recipe=recipe,
        weights=weights,
        trained=None
        if recipe is None or weights is not None
        else lambda: study_weights(recipe, store, settings, progress=PlainReporter()),
    )
    views = inspection.of_files(images) if images else inspection.of_validation(count)
    if inspection.note is not None:
        say(inspection.note)
    title = f"{reference.backbone}: {reference.schedule.describe(reference.geometry)}"
    save_kept_tokens(views, output, title=title, note=inspection.caption)
    if as_json:
        typer.echo(json.dumps(_document(inspection, views, output)))
        return
    typer.echo(f"{output}: {counted(len(views), 'image')}, {inspection.weights}")


def _document(inspection: Inspection, views: list[ImageView], output: Path) -> dict[str, object]:
    return {
        "picture": str(output),
        "backbone": inspection.reference.backbone,
        "weights": inspection.weights,
        "trained": inspection.caption is None,
        "images": [view.document() for view in views],
    }
