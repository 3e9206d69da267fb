"""`profile` and its subcommands: measure, import, list and show latency profiles of a device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sparsesearch.artifacts.output_files import check_new_file
from sparsesearch.cli.options import (
    DatabaseOption,
    ForceOption,
    JsonOption,
    device_option,
    image_size_option,
    open_settings,
)
from sparsesearch.cli.progress_option import OUTPUT_PANEL, ProgressOption, QuietOption
from sparsesearch.console.choose import ProgressMode, open_reporter
from sparsesearch.console.streams import out, say
from sparsesearch.errors import SpecError
from sparsesearch.latency.profile.document import Profile, read_profile, write_profile
from sparsesearch.schedule.image_size import ImageSize
from sparsesearch.study.latency_record import parse_runtime

_WHAT, _HOW = "What to profile", "How to measure"

app = typer.Typer(invoke_without_command=True)

NameArgument = Annotated[str, typer.Argument(help="Name of the profile; see: sparsesearch profile list")]


@app.callback()
def profile(
    context: typer.Context,
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="deit_s or any supported model.", rich_help_panel=_WHAT)
    ] = None,
    device: Annotated[str | None, device_option(_WHAT)] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per call.", rich_help_panel=_WHAT)] = 1,
    precision: Annotated[
        str, typer.Option(metavar="NAME", help="float32, bf16 or fp16.", rich_help_panel=_WHAT)
    ] = "float32",
    compiles: Annotated[
        bool,
        typer.Option(
            "--compile/--no-compile",
            help="Compile the models with torch.compile; most of the time then goes into compilation.",
            rich_help_panel=_WHAT,
        ),
    ] = False,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Use the channels-last memory format.", rich_help_panel=_WHAT)
    ] = False,
    image_size: Annotated[ImageSize | None, image_size_option(_WHAT)] = None,
    methods: Annotated[
        str,
        typer.Option(help="default: the methods of the papers. all: every reducer and scorer.", rich_help_panel=_WHAT),
    ] = "default",
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads of torch. [default: torch's default]", rich_help_panel=_HOW),
    ] = None,
    schedules: Annotated[
        int, typer.Option(min=1, metavar="N", help="Random schedules to fit the model on.", rich_help_panel=_HOW)
    ] = 24,
    held_out: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Held-out random schedules to measure the error on.", rich_help_panel=_HOW
        ),
    ] = 12,
    runs: Annotated[int, typer.Option(min=3, metavar="N", help="Timed runs per schedule.", rich_help_panel=_HOW)] = 50,
    seconds: Annotated[
        float, typer.Option(help="Approximate time limit; shorter is less accurate.", rich_help_panel=_HOW)
    ] = 600.0,
    clock: Annotated[
        str,
        typer.Option(metavar="wall|cpu", help="cpu: processor time, which no budget can use.", rich_help_panel=_HOW),
    ] = "wall",
    runtime: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What runs the models: torch, onnx (ONNX Runtime), aoti (AOTInductor) or cuda-graph.",
            rich_help_panel=_WHAT,
        ),
    ] = "torch",
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Save the profile in the database under this name.", rich_help_panel=OUTPUT_PANEL
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the profile as JSON.", rich_help_panel=OUTPUT_PANEL),
    ] = None,
    force: ForceOption = False,
    database: DatabaseOption = None,
    progress: ProgressOption = ProgressMode.AUTO,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the latency of a backbone's schedules on this device, for budgets in milliseconds.

    A few dozen schedules are timed, interleaved with the dense model. A latency model fitted to them predicts all other
    schedules; its error is measured on held-out schedules. Without --output, the profile is saved in the database. On a
    device that has only torch and timm, run `python -m sparsesearch.latency.profile`, then `profile import` here.

    For example:

    sparsesearch profile --backbone deit_t --device cpu --threads 1

    sparsesearch profile --backbone deit_s --device cuda:0 -o gpu.json --compile

    sparsesearch profile --backbone deit_s --device cpu --runtime onnx
    """
    if context.invoked_subcommand is not None:
        return
    if backbone is None:
        raise SpecError("no backbone given; use --backbone deit_s")
    if output is not None:
        check_new_file(output, force=force)
    profiles = open_settings(database)[1].profiles if output is None or name is not None else None
    with open_reporter(progress, quiet=quiet) as reporter:
        from sparsesearch.app.target_lookup import profile_name
        from sparsesearch.deploy.timed_calls import ready_in
        from sparsesearch.latency.profile.profile_plan import ProfilePlan, run_plan  # takes seconds to load

        plan = ProfilePlan(
            backbone=backbone,
            device=device or "auto",
            batch_size=batch_size,
            precision=precision,
            compile=compiles,
            channels_last=channels_last,
            threads=threads,
            image_size=image_size,
            methods=methods,
            schedules=schedules,
            held_out=held_out,
            runs=runs,
            seconds=seconds,
            clock=clock,
            runtime=runtime,
        )
        ready = ready_in(parse_runtime(runtime))
        with reporter.bar("measuring, %", 100) as bar:
            made = run_plan(plan, ready=ready, on_percent=bar.advance)
        if output is not None:
            write_profile(made, output)
        chosen = name or profile_name(made)
        if profiles is not None:
            profiles.save(chosen, made, replace=name is None)
    if as_json or not reporter.prints_summary:
        reporter.result(made.model_dump(mode="json"))
        if as_json and not reporter.prints_result:
            typer.echo(made.model_dump_json())
        return
    for line in made.sentences():
        typer.echo(line)
    if output is not None:
        say(f"written: {output}")
    if profiles is not None:
        say(f"saved as profile {chosen}")


@app.command("import")
def import_profile(
    file: Annotated[Path, typer.Argument(help="A profile written on the device.")],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the profile. [default: the file name]")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an existing profile of this name.")] = False,
    database: DatabaseOption = None,
) -> None:
    """Import a profile that was made on another machine into the study database.

    Example: sparsesearch profile import h200.json --name h200
    """
    read = read_profile(file)
    _, store = open_settings(database)
    chosen = name or file.stem
    store.profiles.save(chosen, read, replace=replace)
    say(f"saved as profile {chosen}; search with: sparsesearch run --budget-ms X --device-profile {chosen}")


@app.command("list")
def list_profiles(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """List the profiles in the database. Read-only.

    Example: sparsesearch profile list
    """
    _, store = open_settings(database)
    found = [(name, store.profiles.get(name)) for name in store.profiles.names()]
    if as_json:
        typer.echo(json.dumps([{"name": name, **_summary(one)} for name, one in found]))
        return
    if not found:
        typer.echo("No profiles yet. Create one with: sparsesearch profile --backbone deit_s")
        return
    table = Table()
    for column in ("profile", "backbone", "target", "dense ms", "mean error", "margin"):
        table.add_column(column, justify="right" if column in ("dense ms", "mean error", "margin") else "left")
    for name, one in found:
        error = one.fit.error
        table.add_row(
            name,
            one.geometry.name,
            one.conditions.describe(),
            f"{one.fit.dense_ms:.4g}",
            f"{100 * error.mean:.1f} %",
            f"{100 * error.margin:.1f} %",
        )
    out.print(table)


@app.command()
def show(name: NameArgument, database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Show the target and the accuracy of a profile; with --json, the whole profile. Read-only.

    Example: sparsesearch profile show h200
    """
    _, store = open_settings(database)
    found = store.profiles.get(name)
    if as_json:
        typer.echo(found.model_dump_json())
        return
    for line in found.sentences():
        typer.echo(line)
    table = Table()
    for column in ("held out", "measured ms", "predicted ms", "error"):
        table.add_column(column, justify="left" if column == "held out" else "right")
    for described, measured, predicted in held_out_rows(found):
        table.add_row(described, f"{measured:.4g}", f"{predicted:.4g}", f"{100 * (predicted / measured - 1):+.1f} %")
    out.print(table)


@app.command()
def delete(name: NameArgument, database: DatabaseOption = None) -> None:
    """Delete a profile. Studies that used it are not affected.

    Example: sparsesearch profile delete h200
    """
    _, store = open_settings(database)
    store.profiles.delete(name)
    say(f"deleted profile {name}")


def held_out_rows(profile: Profile) -> list[tuple[str, float, float]]:
    """Return the schedule, measured and predicted milliseconds of each held-out schedule."""
    from sparsesearch.cost.latency_model import LatencyModel

    model = LatencyModel(profile.fit)
    return [
        (
            one.schedule.describe(profile.geometry),
            profile.measured_ms(one),
            model.predict(profile.geometry, one.schedule),
        )
        for one in profile.timings
        if one.role == "held_out"
    ]


def _summary(profile: Profile) -> dict[str, object]:
    return {
        "backbone": profile.geometry.name,
        "image_size": list(profile.geometry.image_size),
        "conditions": profile.conditions.model_dump(mode="json"),
        "dense_ms": profile.fit.dense_ms,
        "error": profile.fit.error.model_dump(mode="json"),
        "measurements": len(profile.timings),
        "busy": profile.is_busy,
    }
