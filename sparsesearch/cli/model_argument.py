"""Options that name a model: a backbone with a schedule, or a file that holds both."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_PANEL = "Which model"

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
        help="best.yaml, model.safetensors, or steps as YAML or JSON (then with --backbone).",
        rich_help_panel=_PANEL,
    ),
]
RhoOption = Annotated[
    float | None,
    typer.Option("--rho", metavar="R", help="The papers' schedule at this rate: 0.7.", rich_help_panel=_PANEL),
]
AtOption = Annotated[
    str,
    typer.Option(
        "--at", help="Blocks (0-based) with a predictor in front: 3,6,9. '' is dense.", rich_help_panel=_PANEL
    ),
]
KeepOption = Annotated[
    str,
    typer.Option(
        "--keep", help="Share of the initial tokens kept from each on: 0.7,0.49,0.343.", rich_help_panel=_PANEL
    ),
]
ImageSizeOption = Annotated[
    int | None,
    typer.Option("--image-size", min=8, help="Pixels, if not the backbone's own.", rich_help_panel=_PANEL),
]
