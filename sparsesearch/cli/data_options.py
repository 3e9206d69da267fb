"""The options of `run` about the data, grouped into one help panel."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from sparsesearch.cli.options import image_size_option
from sparsesearch.schedule.image_size import ImageSize

WHAT = "What to search"


def data_workers_option(panel: str | None = None) -> Any:
    """Return the `--data-workers` option, listed in a panel of the help."""
    return typer.Option(
        "--data-workers",
        min=0,
        metavar="N",
        help="Processes that decode images, for each training or evaluation; results do not depend on it. Use more if "
        "the GPU waits for images; with 0, the training decodes by itself. [default: its CPU cores less one, at least "
        "1]",
        rich_help_panel=panel,
    )


DataOption = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        help="folder:PATH (PATH/train, PATH/val[, PATH/test], or plain class folders), hfds/OWNER/NAME, hfds:PATH, "
        "torch/NAME:PATH, wds:PATH (tar shards), digits:hard, digits:four; see docs/data.md. "
        "[default: $SPARSESEARCH_DATA, else the bundled digits demo]",
        rich_help_panel=WHAT,
    ),
]
ImageSizeOption = Annotated[ImageSize | None, image_size_option(WHAT)]
ClassOrderOption = Annotated[
    Literal["natural", "alphabetical"] | None,
    typer.Option(
        metavar="ORDER",
        help="Order of class folders: natural (class2 before class10, timm's) or alphabetical (torchvision's). "
        "[default: natural]",
        rich_help_panel=WHAT,
    ),
]
ValOption = Annotated[
    Literal["train", "half"] | None,
    typer.Option(
        "--val",
        metavar="train|half",
        help="If the data has train and one other split: rank schedules on images held out of train, and test on the "
        "other split; or rank on half of that split and test on the other half, which is right for weights that were "
        "trained on all of train, such as ImageNet's. [default: train]",
        rich_help_panel=WHAT,
    ),
]
OnBrokenOption = Annotated[
    Literal["stop", "skip"] | None,
    typer.Option(
        metavar="stop|skip",
        help="What a broken image does: stop ends the study; skip decodes all images first and leaves out broken ones. "
        "[default: stop]",
        rich_help_panel=WHAT,
    ),
]
DataWorkersOption = Annotated[int | None, data_workers_option(WHAT)]
