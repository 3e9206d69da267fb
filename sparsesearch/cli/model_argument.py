"""Options that select a model: a backbone with a schedule, or a file that contains both."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.catalog.names import which_is_meant
from sparsesearch.cli.options import image_size_option
from sparsesearch.console.streams import say
from sparsesearch.schedule.image_size import ImageSize

_PANEL = "Model"

BackboneOption = Annotated[
    str | None,
    typer.Option(
        "--backbone", help="deit_s, lvvit_s, convnext_tiny, swin_tiny or any supported model.", rich_help_panel=_PANEL
    ),
]
ScheduleOption = Annotated[
    Path | None,
    typer.Option(
        "--schedule",
        metavar="FILE",
        help="best.yaml, model.safetensors, or steps as YAML or JSON (requires --backbone).",
        rich_help_panel=_PANEL,
    ),
]
RhoOption = Annotated[
    float | None,
    typer.Option("--rho", metavar="R", help="The papers' schedule at this keep ratio: 0.7.", rich_help_panel=_PANEL),
]
AtOption = Annotated[
    str,
    typer.Option("--at", help="Blocks (0-based) preceded by a predictor: 3,6,9. '' is dense.", rich_help_panel=_PANEL),
]
KeepOption = Annotated[
    str,
    typer.Option(
        "--keep",
        help="Fraction of the initial tokens kept from each of these blocks on: 0.7,0.49,0.343.",
        rich_help_panel=_PANEL,
    ),
]
ImageSizeOption = Annotated[ImageSize | None, image_size_option(_PANEL)]


def say_which_is_meant(backbone: str | None) -> None:
    """Say which backbone is meant by a name that two have."""
    meant = None if backbone is None else which_is_meant(backbone)
    if meant is not None:
        say(meant)
