"""`measure`: measure the latency of a recipe on its target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.artifacts.recipe import Recipe, RecipeLatency, read_recipe, write_recipe
from sparsesearch.cli.console import say
from sparsesearch.cli.options import DatabaseOption, check_output_file, device_option, json_option, open_settings
from sparsesearch.cli.progress_option import OUTPUT_PANEL, ProgressMode, ProgressOption, QuietOption, open_reporter
from sparsesearch.errors import ProfileError, StudyBusyError, StudyNotFoundError
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.events import Confirmed
from sparsesearch.study.latency_record import Conditions, ConfirmedLatency, parse_precision
from sparsesearch.study.trial import Trial

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
    with open_reporter(progress, quiet=quiet) as reporter:
        from sparsesearch.app.confirm_front import measure_here
        from sparsesearch.app.target_lookup import target_for
        from sparsesearch.latency.device import torch_threads
        from sparsesearch.latency.target import Target  # takes seconds to load

        known = original.latency
        conditions = _requested_conditions(known.target if known else None, batch_size, precision, compiles, threads)
        target = target_for(conditions, original.backbone, device=device or "auto", image_size=original.image_size)
        target = Target(**{**vars(target), "num_classes": original.num_classes, "in_chans": original.in_chans})
        with torch_threads(conditions.num_threads or None):
            here = target.conditions()
        if known is not None:
            _check(known.target, here, path=recipe)
        found = measure_here(
            target,
            {"recipe": original.schedule},
            conditions=here,
            reference_ms=known.dense_ms if known else None,
            progress=reporter,
            label="measuring",
            seconds=seconds,
        )["recipe"]
    made = _with(original, found)
    write_recipe(made, written_to)
    assert made.latency is not None
    noted = _note_in_study(made, found, database=database)
    budget = made.latency.budget_ms
    verdict = None if budget is None else ("meets" if found.ms <= budget else "misses")
    document = {
        "recipe": str(written_to),
        "latency_ms": found.ms,
        "dense_ms": found.latency.median_ms / found.ratio,
        "speed_up": 1.0 / found.ratio,
        "predicted_ms": made.latency.predicted_ms,
        "budget_ms": budget,
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
        _print(made.latency, found, verdict)
        say(f"written: {written_to}" + (f"; study {noted}" if noted else ""))
    if verdict == "misses":
        raise typer.Exit(1)


def _requested_conditions(
    known: Conditions | None, batch_size: int | None, precision: str | None, compiles: bool | None, threads: int | None
) -> Conditions:
    """Return the conditions of the recipe's target, overridden by flags; the device is resolved later."""
    base = known or Conditions(
        device="",
        device_name="",
        precision="float32",
        batch_size=1,
        compiled=False,
        memory_format="contiguous",
        num_threads=0,
        torch="",
        timm="",
    )
    flags = {
        "batch_size": batch_size,
        "precision": None if precision is None else parse_precision(precision),
        "compiled": compiles,
        "num_threads": threads,
    }
    return base.model_copy(update={name: value for name, value in flags.items() if value is not None})


def _check(target: Conditions, here: Conditions, *, path: Path) -> None:
    """Check that this machine is the target of a recipe."""
    differences = target.differences(here)
    if differences:
        raise ProfileError(
            f"{path} was searched for another target ({', '.join(differences)}); measure it on {target.describe()}, or "
            "search for this machine with: sparsesearch run --budget-ms"
        )


def _with(recipe: Recipe, found: ConfirmedLatency) -> Recipe:
    known = recipe.latency or RecipeLatency(target=found.conditions)
    return recipe.model_copy(update={"latency": known.model_copy(update={"confirmed": found})})


def _note_in_study(recipe: Recipe, found: ConfirmedLatency, *, database: str | None) -> str | None:
    """Record the latency with its trial if the study is in the database; return the study's name."""
    _, store = open_settings(database)
    trial = _trial_of(recipe, store)
    if trial is None:
        return None
    try:
        writer = store.open_study(trial.study)
    except StudyBusyError:
        say(f"study {trial.study!r} is running, so the latency is written to the recipe only")
        return None
    try:
        writer.record(Confirmed(trial=trial.number, attempt=trial.attempt, latency=found))
    finally:
        writer.close()
    return trial.study


def _trial_of(recipe: Recipe, store: SqlStore) -> Trial | None:
    """Return the trial of a recipe, or None if it is not in the database or its study has no target."""
    try:
        spec = store.spec(recipe.provenance.study)
        trials = store.trials(recipe.provenance.study)
    except StudyNotFoundError:
        return None
    if spec.resolved is None or spec.resolved.latency is None:
        return None
    same = [one for one in trials if one.number == recipe.provenance.trial and one.state.is_final]
    return next((one for one in same if one.key == recipe.provenance.schedule_key), None)


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
