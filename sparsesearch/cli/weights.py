"""`weights`: check files with weights before they are used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.backbones.lookup import resolve_name
from sparsesearch.cli.model_argument import ImageSizeOption, say_which_is_meant
from sparsesearch.cli.options import JsonOption
from sparsesearch.errors import CheckpointError
from sparsesearch.schedule.image_size import size_text

app = typer.Typer(help="Check files with weights.", no_args_is_help=True)
_SHOWN = 10


@app.callback()
def _group() -> None:
    """Check files with weights."""


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file with weights, or a Hugging Face folder.")],
    backbone: Annotated[str, typer.Option(help="Backbone that the weights are for: deit_s or any supported model.")],
    ema: Annotated[
        bool | None,
        typer.Option("--ema/--no-ema", help="Require averaged weights, or ignore them. [default: averaged if any]"),
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=1, help="Classes of your data. [default: those of the file]")
    ] = None,
    channels: Annotated[
        int | None, typer.Option(min=1, help="Channels of your images. [default: those of the file]")
    ] = None,
    image_size: ImageSizeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what `run --weights` would load from a file, what not, and why.

    Nothing is trained or written, and code in a file is never executed. The exit code is 0 if the weights can be used,
    2 otherwise.

    For example:

    sparsesearch weights check best.pth --backbone deit_s --classes 10
    """
    say_which_is_meant(backbone)
    resolve_name(backbone)
    from sparsesearch.app.check_weights import check_weights_file  # takes seconds to load

    done = check_weights_file(
        path, backbone=backbone, ema=ema, num_classes=classes, in_chans=channels, image_size=image_size
    )
    if as_json:
        typer.echo(json.dumps(done.document()))
        raise typer.Exit(0 if done.problem is None else CheckpointError.exit_code)
    if done.fitted is not None:
        typer.echo(f"weights: {done.fitted.describe()}")
        found = done.fitted.comparison
        _list("missing", found.missing)
        _list("unknown", found.unknown)
        _list("of another shape", found.misshapen)
        _list("unusable", found.unusable)
        _list("resampled", tuple(map(str, done.fitted.resampled)))
        _list("left out", done.fitted.left_out)
    if done.problem is not None:
        raise CheckpointError(done.problem)
    size = "" if image_size is None else f" --image-size {size_text(image_size)}"
    typer.echo(f"usable: sparsesearch run --backbone {backbone}{size} --weights {path}")


def _list(what: str, names: tuple[str, ...]) -> None:
    for name in names[:_SHOWN]:
        typer.echo(f"  {what}: {name}")
    if len(names) > _SHOWN:
        typer.echo(f"  {what}: {len(names) - _SHOWN} more (all of them: --json)")
