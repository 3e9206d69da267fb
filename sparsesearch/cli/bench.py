"""`bench`: measure the latency of a sparse model next to its dense model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sparsesearch.artifacts.output_files import check_new_file, check_output_file
from sparsesearch.cli.model_argument import (
    AtOption,
    BackboneOption,
    ImageSizeOption,
    KeepOption,
    RhoOption,
    ScheduleOption,
)
from sparsesearch.cli.options import ForceOption, device_option, json_option
from sparsesearch.cli.progress_option import OUTPUT_PANEL, ProgressOption, QuietOption
from sparsesearch.console.choose import ProgressMode, open_reporter
from sparsesearch.console.streams import out, say
from sparsesearch.latency.bench import table as text
from sparsesearch.latency.bench.bench_plan import BenchPlan, help_of
from sparsesearch.latency.bench.comparison import Comparison

_HOW = "How to measure"


def bench(
    backbone: BackboneOption = None,
    schedule: ScheduleOption = None,
    rho: RhoOption = None,
    at: AtOption = "",
    keep: KeepOption = "",
    image_size: ImageSizeOption = None,
    device: Annotated[str | None, device_option(_HOW)] = None,
    batch_size: Annotated[
        str, typer.Option(metavar="LIST", help=help_of("batch_size"), rich_help_panel=_HOW)
    ] = BenchPlan.batch_size,
    precision: Annotated[
        str, typer.Option(metavar="NAME", help=help_of("precision"), rich_help_panel=_HOW)
    ] = BenchPlan.precision,
    compiles: Annotated[
        bool, typer.Option("--compile/--no-compile", help=help_of("compile"), rich_help_panel=_HOW)
    ] = BenchPlan.compile,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help=help_of("channels_last"), rich_help_panel=_HOW)
    ] = BenchPlan.channels_last,
    threads: Annotated[int | None, typer.Option(help=help_of("threads"), rich_help_panel=_HOW)] = BenchPlan.threads,
    runs: Annotated[int, typer.Option(help=help_of("runs"), rich_help_panel=_HOW)] = BenchPlan.runs,
    seconds: Annotated[float | None, typer.Option(help=help_of("seconds"), rich_help_panel=_HOW)] = BenchPlan.seconds,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Also write JSON.", rich_help_panel=OUTPUT_PANEL),
    ] = None,
    force: ForceOption = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw a PNG.", rich_help_panel=OUTPUT_PANEL)
    ] = None,
    progress: ProgressOption = ProgressMode.AUTO,
    quiet: QuietOption = False,
    as_json: Annotated[bool, json_option(OUTPUT_PANEL)] = False,
) -> None:
    """Time a sparse model and its dense model side by side: latency, throughput, speed-up.

    Runs of the two models are interleaved after a warm-up and synchronized. Fewer multiply-adds do not always mean
    lower latency: this shows how much of the gain remains on this machine. Where only torch and timm are installed, use
    `python -m sparsesearch.latency.bench`.

    For example:

    sparsesearch bench --backbone deit_s --rho 0.7 --batch-size 1,64,256

    sparsesearch bench --schedule best.yaml --device cuda --precision bf16
    """
    plan = BenchPlan(
        device=device or "auto",
        batch_size=batch_size,
        precision=precision,
        compile=compiles,
        channels_last=channels_last,
        threads=threads,
        runs=runs,
        seconds=seconds,
    )
    if output is not None:
        check_new_file(output, force=force)
    if plot is not None:
        check_output_file(plot)
    reporter = open_reporter(progress, quiet=quiet)
    with reporter:
        from sparsesearch.artifacts.model_reference import find_model
        from sparsesearch.latency.bench.compare import compare  # takes seconds to load

        reference = find_model(backbone=backbone, schedule=schedule, rho=rho, at=at, keep=keep, image_size=image_size)
        found = compare(reference, plan, progress=reporter)
    if output is not None:
        from sparsesearch.latency.bench.comparison import write_document

        write_document(found, output)
    if plot is not None:
        from sparsesearch.visualize.latency_plot import save_comparison

        save_comparison(found, plot, title=text.title(found), note=text.conditions_line(found))
    if as_json or not reporter.prints_summary:
        reporter.result(found.document())
        if as_json and not reporter.prints_result:
            typer.echo(json.dumps(found.document()))
        return
    _print(found)
    for path in (output, plot):
        if path is not None:
            say(f"written: {path}")


def _print(found: Comparison) -> None:
    table = Table(title=text.title(found), title_justify="left")
    for column in text.columns(found):
        table.add_column(column, justify="left" if column == "model" else "right")
    for number, row in enumerate(text.rows(found)):
        table.add_row(*row, end_section=number % 2 == 1)
    out.print(table)
    typer.echo(text.conditions_line(found))
    for sentence in found.sentences():
        typer.echo(sentence)
