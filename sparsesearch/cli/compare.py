"""`compare`: trained models and deployed files next to each other on the test split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.artifacts.output_files import check_output_file
from sparsesearch.cli.options import DatabaseOption, json_option, refuse_server
from sparsesearch.cli.progress_option import OUTPUT_PANEL, ProgressOption, QuietOption
from sparsesearch.console.choose import ProgressMode, open_reporter
from sparsesearch.console.streams import out, say
from sparsesearch.errors import SpecError
from sparsesearch.files.durable import write_file
from sparsesearch.settings import Settings
from sparsesearch.study.spec import DataSpec

_ENDINGS = (".png", ".html")


def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Files of `retrain` or `export --format`, studies, or dense (the model before it, dense).",
        ),
    ],
    data: Annotated[
        str | None, typer.Option(help="Data, in the format of `run --data`. [default: the model's]")
    ] = None,
    speed: Annotated[bool, typer.Option("--speed/--no-speed", help="Time the models in turn, on the CPU.")] = True,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Also write a picture (.png) or a page (.html).", rich_help_panel=OUTPUT_PANEL
        ),
    ] = None,
    progress: ProgressOption = ProgressMode.AUTO,
    quiet: QuietOption = False,
    database: DatabaseOption = None,
    as_json: Annotated[bool, json_option(OUTPUT_PANEL)] = False,
) -> None:
    """Compare models on the whole test split: accuracy, differences by pairs, classes, and speed.

    Differences are those to the first model, on the same images: their 95 % interval, and the p-value of McNemar's
    test. Milliseconds are medians of calls with 1, 8 and 32 images, each model in its own runtime.

    For example:

    sparsesearch compare model.safetensors dense

    sparsesearch compare model.onnx model.int8.onnx model.safetensors -o all.html
    """
    refuse_server(database)
    if output is not None:
        if output.suffix not in _ENDINGS:
            raise SpecError(f"{output} must end in {' or '.join(_ENDINGS)}")
        check_output_file(output)
    with open_reporter(progress, quiet=quiet) as reporter:
        with reporter.bar("loading PyTorch", None):
            from sparsesearch.app.compare_models import compare_models
            from sparsesearch.deploy.compared import COLUMNS, changes_of_classes, document, rows

        found = compare_models(
            models,
            data=None if data is None else DataSpec(source=data),
            settings=Settings.from_environment(database_url=database),
            progress=reporter,
            times=speed,
        )
    if output is not None:
        from sparsesearch.app.compared_page import comparison_page, comparison_picture

        write_file(output, comparison_page(found) if output.suffix == ".html" else comparison_picture(found))
        say(f"{output}: written")
    if as_json:
        typer.echo(json.dumps(document(found.contestants, found.class_names)))
        return
    from rich.table import Table

    table = Table(*COLUMNS, box=None, pad_edge=False)
    for row in rows(found.contestants):
        table.add_row(*row)
    out.print(table)
    for line in changes_of_classes(found.contestants, found.class_names):
        typer.echo(line)
