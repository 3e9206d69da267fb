"""`measure`: measure the latency of a recipe on its target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.artifacts.output_files import check_output_file
from sparsesearch.artifacts.recipe import RecipeLatency, read_recipe, write_recipe
from sparsesearch.cli.options import DatabaseOption, device_option, json_option, open_settings
from sparsesearch.cli.progress_option import OUTPUT_PANEL, ProgressOption, QuietOption
from sparsesearch.console.choose import ProgressMode, open_reporter
from sparsesearch.console.streams import say
from sparsesearch.study.latency_record import ConfirmedLatency, parse_precision, parse_runtime

_HOW = "Target, if the recipe has none"


def measure(
    recipe: Annotated[Path, typer.Argument(help="A recipe written by `run` or `export`.")],
    device: Annotated[str | None, device_option()] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images per call. [default: 1]", rich_help_panel=_HOW)
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="NAME", help="float32, bf16 or fp16. [default: float32]", rich_help_panel=_HOW)
    ] = None,
    compiles: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Compile the models with torch.compile.", rich_help_panel=_HOW),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of torch. [default: torch's default]", rich_help_panel=_HOW)
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="torch, onnx, aoti or cuda-graph. [default: torch]", rich_help_panel=_HOW),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Approximate time limit.")] = 60.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Output file. [default: the recipe itself]")
    ] = None,
    database: DatabaseOption = None,
    progress: ProgressOption = ProgressMode.AUTO,
    quiet: QuietOption = False,
    as_json: Annotated[bool, json_option(OUTPUT_PANEL)] = False,
) -> None:
    """Measure the latency of a recipe on its target, interleaved with the dense model, and check its budget.

    Writes the latency and its conditions into the recipe, and into the study if it is in the database; the measured
    latency then replaces the predicted one. Exits with code 1 if the budget is exceeded.

    For example:

    sparsesearch measure my-study/best.yaml

    sparsesearch measure best.yaml --device cuda:0 --batch-size 64 --compile
    """
    original = read_recipe(recipe)
    written_to = output or recipe
    check_output_file(written_to)
    conditions = {
        "batch_size": batch_size,
        "precision": None if precision is None else parse_precision(precision),
        "compiled": compiles,
        "num_threads": threads,
        "runtime": None if runtime is None else parse_runtime(runtime),
    }
    with open_reporter(progress, quiet=quiet) as reporter:
        from sparsesearch.app.measure_recipe import measure_recipe, record_latency  # takes seconds to load

        measured = measure_recipe(
            original, source=recipe, conditions=conditions, device=device or "auto", seconds=seconds, progress=reporter
        )
        write_recipe(measured.recipe, written_to)
        _, store = open_settings(database)
        noted = record_latency(measured, store, progress=reporter)
    found, verdict, latency = measured.found, measured.verdict, measured.latency
    document = {
        "recipe": str(written_to),
        "latency_ms": found.ms,
        "dense_ms": found.latency.median_ms / found.ratio,
        "speed_up": 1.0 / found.ratio,
        "predicted_ms": latency.predicted_ms,
        "budget_ms": latency.budget_ms,
        "verdict": verdict,
        "busy": found.is_busy,
        "confirmed": found.model_dump(mode="json"),
        "study": noted,
    }
    if as_json or not reporter.prints_summary:
        reporter.result(document)
        if as_json and not reporter.prints_result:
            typer.echo(json.dumps(document))
    else:
        _print(latency, found, verdict)
        say(f"written: {written_to}" + (f"; study {noted}" if noted else ""))
    if verdict == "misses":
        raise typer.Exit(1)


def _print(known: RecipeLatency, found: ConfirmedLatency, verdict: str | None) -> None:
    typer.echo(f"{found.ms:.4g} ms, {1 / found.ratio:.2f} times as fast as dense, on {found.conditions.describe()}")
    if known.predicted_ms is not None:
        typer.echo(f"predicted {known.predicted_ms:.4g} ms, {100 * (known.predicted_ms / found.ms - 1):+.1f} %")
    if verdict is not None:
        typer.echo(f"{verdict} the budget of {known.budget_ms:g} ms")
    if abs(found.drift - 1.0) > 0.1:
        typer.echo(
            f"the machine takes {found.drift:.2f} times as long as when it was profiled (measured "
            f"{found.latency.median_ms:.4g} ms); the latency is scaled to the speed of the profile"
        )
    if found.is_busy:
        typer.echo("the machine was busy, so this latency is unreliable; measure again when it is idle")
