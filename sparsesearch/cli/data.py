"""`data check`: what a study would use of data, what not, and why."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from sparsesearch.app.check_data import check_data
from sparsesearch.cli.data_options import ClassOrderOption, ImageSizeOption, OnBrokenOption, ValOption
from sparsesearch.cli.options import JsonOption
from sparsesearch.cli.progress_option import ProgressOption, QuietOption
from sparsesearch.console.choose import ProgressMode, open_reporter
from sparsesearch.data.samples import left_out_text
from sparsesearch.data.source import absolute_source
from sparsesearch.errors import DataError, printable
from sparsesearch.schedule.image_size import sides
from sparsesearch.study.spec import DataSpec
from sparsesearch.text import counted

app = typer.Typer(help="Check what a study would use of data, what not, and why.", no_args_is_help=True)
_SHOWN_BROKEN = 100


@app.callback()
def _data() -> None:
    """Check what a study would use of data, what not, and why."""


@app.command()
def check(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The data, as in `run --data`: folder:PATH, ...")],
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="Also say the size of the images for this backbone.")
    ] = None,
    decode_all: Annotated[
        bool, typer.Option("--all", help="Decode every image, on all cores, and list all that are broken.")
    ] = False,
    image_size: ImageSizeOption = None,
    class_order: ClassOrderOption = None,
    val: ValOption = None,
    on_broken: OnBrokenOption = None,
    progress: ProgressOption = ProgressMode.AUTO,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say what a study would use of data, what not, and why; the exit code is 0 if the data can be used, otherwise 2.

    Without --all, as when a study begins, 64 images are decoded.

    For example:

    sparsesearch data check folder:/imagenet

    sparsesearch data check folder:/flowers --backbone deit_s --all --json
    """
    with open_reporter(progress, quiet=quiet) as reporter:
        order: Literal["natural", "alphabetical"] = class_order or "natural"
        spec = DataSpec(
            source=absolute_source(source),
            image_size=image_size,
            class_order=order,
            val=val or "train",
            on_broken=on_broken or "stop",
        )
        with reporter.bar("opening the data", None):
            found = check_data(spec, backbone=backbone, decode_all=decode_all, progress=reporter)
    if as_json:
        typer.echo(json.dumps(found.document()))
    else:
        size = "" if found.image_size is None else f", resized to {'x'.join(map(str, sides(found.image_size)))}"
        typer.echo(f"{printable(found.source)}: {found.classes:,} classes{size}")
        typer.echo(f"images: {found.train:,} train, {found.search:,} search validation, {found.test:,} test")
        if found.left_out:
            typer.echo(left_out_text(found.left_out))
        for note in found.notes:
            typer.echo(note)
        for name in found.broken[:_SHOWN_BROKEN]:
            typer.echo(f"broken: {printable(name)}")
        if len(found.broken) > _SHOWN_BROKEN:
            typer.echo(f"... and {len(found.broken) - _SHOWN_BROKEN:,} more; see --json")
    if found.broken and on_broken != "skip":
        raise DataError(
            f"{counted(len(found.broken), 'broken image')}; remove or replace what is broken, or leave it out with "
            "--on-broken skip"
        )
