"""`export`: write the best schedule of a study as a recipe, or a trained model in formats for deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.app.export_recipe import export_recipe
from sparsesearch.app.run_arguments import parse_budget
from sparsesearch.cli.options import (
    DatabaseOption,
    ForceOption,
    open_studies,
    refuse_server,
)
from sparsesearch.cli.progress_option import ProgressOption, QuietOption
from sparsesearch.console.choose import ProgressMode, open_reporter
from sparsesearch.console.reporter import Reporter
from sparsesearch.console.streams import program, say
from sparsesearch.errors import SpecError
from sparsesearch.settings import Settings
from sparsesearch.study.spec import DataSpec, PickName
from sparsesearch.study.trial import Trial
from sparsesearch.text import macs_text

DEPLOY_PANEL = "Trained models"
TIMM_ARGUMENTS = "timm-args"


def export(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="Name of a study; or a file of `retrain`, for --format.")],
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAMES",
            help="Write the trained model in these formats, with commas between them: onnx, pt2, aoti, timm, "
            "safetensors. timm-args writes a recipe, and prints the arguments of timm's train.py for it. "
            "[default: a recipe]",
            rich_help_panel=DEPLOY_PANEL,
        ),
    ] = None,
    budget_gflops: Annotated[
        str | None,
        typer.Option(metavar="X", help="Budget in 10^9 multiply-adds. [default: the study's budget]"),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="P%", help="Budget as a fraction of the dense cost: 30%.")
    ] = None,
    budget_ms: Annotated[str | None, typer.Option(metavar="X", help="Budget in milliseconds on the target.")] = None,
    pick: Annotated[
        PickName | None,
        typer.Option(
            metavar="RULE",
            help="Which schedule is taken: one-se, accuracy or knee, as in `run`. [default: the study's]",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Output file, or folder of --format. [default: best.yaml, or the name of WHAT]"
        ),
    ] = None,
    trial: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Number of the trial whose weights are exported. [default: the best]",
            rich_help_panel=DEPLOY_PANEL,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Data whose test split checks the accuracy, in the format of `run --data`. [default: the model's]",
            rich_help_panel=DEPLOY_PANEL,
        ),
    ] = None,
    accuracy: Annotated[
        bool,
        typer.Option(
            "--accuracy/--no-accuracy",
            help="Check the accuracy on the whole test split in each runtime.",
            rich_help_panel=DEPLOY_PANEL,
        ),
    ] = True,
    speed: Annotated[
        bool,
        typer.Option(
            "--speed/--no-speed", help="Time onnx and aoti next to the dense model.", rich_help_panel=DEPLOY_PANEL
        ),
    ] = True,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Quantise onnx as well, with scales from training images.", rich_help_panel=DEPLOY_PANEL
        ),
    ] = False,
    hub: Annotated[
        str | None,
        typer.Option(
            "--push-to-hub",
            metavar="OWNER/NAME",
            help="Push the folder of the format timm to the Hugging Face hub, private at first.",
            rich_help_panel=DEPLOY_PANEL,
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0.0, help="Largest difference of a logit from torch that is accepted.", rich_help_panel=DEPLOY_PANEL
        ),
    ] = 1e-4,
    opset: Annotated[
        int, typer.Option(help="Version of ONNX's operators, 18 to 23.", rich_help_panel=DEPLOY_PANEL)
    ] = 20,
    force: ForceOption = False,
    progress: ProgressOption = ProgressMode.AUTO,
    quiet: QuietOption = False,
    database: DatabaseOption = None,
) -> None:
    """Write the best schedule of a study as a recipe for `retrain`, or a trained model in formats for deployment.

    For example:

    sparsesearch export my-study -o best.yaml

    sparsesearch export my-study --budget-gflops 2.5 -o cheap.yaml

    sparsesearch export model.safetensors --format onnx,pt2,timm -o deployed

    A trained model is checked before anything is left on disk: each format keeps the same tokens as in torch, gives
    the same logits, and classifies the test split alike.
    """
    if formats is not None and formats.strip() != TIMM_ARGUMENTS:
        if budget_gflops or budget or budget_ms or pick:
            raise SpecError("budgets choose recipes; with --format, choose by --trial (see: sparsesearch trials STUDY)")
        with open_reporter(progress, quiet=quiet) as reporter:
            _deploy(
                what,
                Path(Path(what).stem) if output is None else output,
                formats=formats,
                trial=trial,
                data=data,
                accuracy=accuracy,
                speed=speed,
                int8=int8,
                hub=hub,
                tolerance=tolerance,
                opset=opset,
                force=force,
                database=database,
                reporter=reporter,
            )
        return
    if Path(what).is_file():
        raise SpecError(f"{what} is a file; say in which formats to write it: --format onnx,pt2,timm")
    output = output or Path("best.yaml")
    store = open_studies(database)
    limit = parse_budget(budget_gflops, budget, budget_ms)
    exported = export_recipe(store, what, output, budget=limit, rule=pick, force=force)
    if formats is None:
        _say_recipe(output, exported.trial)
        return
    from sparsesearch.deploy.timm_arguments import timm_arguments  # loads torch

    say(f"{output}: trial {exported.trial.number}; append these to: python -m sparsesearch.timm train.py")
    typer.echo(timm_arguments(exported.recipe, str(output)))


def _deploy(
    what: str,
    folder: Path,
    *,
    formats: str,
    trial: int | None,
    data: str | None,
    accuracy: bool,
    speed: bool,
    int8: bool,
    hub: str | None,
    tolerance: float,
    opset: int,
    force: bool,
    database: str | None,
    reporter: Reporter,
) -> None:
    """Write a trained model in formats for deployment."""
    refuse_server(database)
    with reporter.bar("loading PyTorch", None):
        from sparsesearch.app.deploy_model import DeployOptions, deploy_model
        from sparsesearch.app.deploy_subject import find_subject
        from sparsesearch.deploy.format import formats_of
        from sparsesearch.deploy.formats.onnx import check_opset
        from sparsesearch.deploy.formats.timm import FILE as TIMM_FOLDER
        from sparsesearch.deploy.push_to_hub import check_repository, push_to_hub

    check_opset(opset)
    if hub is not None:
        check_repository(hub)
        if "timm" not in formats.split(","):
            raise SpecError("--push-to-hub pushes the format timm; add it: --format timm")
    options = DeployOptions(
        formats=formats_of(formats),
        data=None if data is None else DataSpec(source=data),
        checks_accuracy=accuracy,
        times=speed,
        int8=int8,
        tolerance=tolerance,
        opset=opset,
        force=force,
    )
    subject = find_subject(what, settings=Settings.from_environment(database_url=database), trial=trial)
    deployed = deploy_model(subject, folder, options, progress=reporter)
    for line in deployed.lines:
        say(line)
    if hub is not None:
        with reporter.bar(f"pushing to {hub}", None):
            address = push_to_hub(folder / TIMM_FOLDER, hub)
        say(f"pushed: {address}")


def _say_recipe(output: Path, trial: Trial) -> None:
    cost = macs_text(trial.cost.macs)
    if trial.cost.ms is not None:
        cost += f", {trial.cost.ms:.4g} ms {'predicted' if trial.confirmed is None else 'measured'}"
    say(f"{output}: trial {trial.number}, {cost}. Next: {program()} retrain {output}")
