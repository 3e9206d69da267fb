"""`retrain`: train a recipe in full."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.artifacts.output_files import check_new_file
from sparsesearch.artifacts.recipe import is_edited, read_recipe
from sparsesearch.cli.data_options import data_workers_option
from sparsesearch.cli.options import (
    DeviceOption,
    ForceOption,
    json_option,
)
from sparsesearch.cli.place_options import RayAddressOption, WorkersPerTrainingOption
from sparsesearch.cli.progress_option import OUTPUT_PANEL, ProgressOption, QuietOption
from sparsesearch.cli.run_options import CompileOption
from sparsesearch.console.choose import ProgressMode, open_reporter
from sparsesearch.settings import Settings
from sparsesearch.text import macs_text


def retrain(
    recipe: Annotated[Path, typer.Argument(help="A recipe written by `run` or `export`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Output file.")] = Path("model.safetensors"),
    force: ForceOption = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, without the checkpoints of an earlier call.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="Training data, in the format of `run --data`. [default: the recipe's]")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Initial weights, in the format of `run --weights`. [default: the recipe's]")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Training: short, or a paper's by its model: deit_s, convnext_t, ...; auto suits weights and data. "
            "[default: the recipe's]",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of the sparse training. [default: the recipe's]")
    ] = None,
    data_workers: Annotated[int | None, data_workers_option()] = None,
    compile_teacher: CompileOption = None,
    device: DeviceOption = None,
    workers_per_training: WorkersPerTrainingOption = None,
    ray_address: RayAddressOption = None,
    mlflow: Annotated[
        bool,
        typer.Option(
            "--mlflow/--no-mlflow", help="Log the training and the model to MLflow.", rich_help_panel=OUTPUT_PANEL
        ),
    ] = True,
    progress: ProgressOption = ProgressMode.AUTO,
    quiet: QuietOption = False,
    as_json: Annotated[bool, json_option(OUTPUT_PANEL)] = False,
) -> None:
    """Train a recipe in full, evaluate it on the test split, and save it as one safetensors file.

    The file contains the trained sparse model and its schedule. Prints the accuracy next to that of the dense model.

    For example:

    sparsesearch retrain best.yaml -o model.safetensors

    sparsesearch retrain best.yaml --data folder:/data/imagenet --preset deit_s

    torchrun --nproc-per-node 8 -m sparsesearch retrain best.yaml

    Several GPUs of this machine, or of a Ray cluster (--ray-address auto), train together.

    Checkpoints are kept in OUTPUT.checkpoints until the file is written: after a stop, the same command goes on.

    Load it with:  model = sparsesearch.load("model.safetensors")
    """
    wanted = read_recipe(recipe)
    check_new_file(output, force=force)
    is_silent = os.environ.get("RANK", "0") != "0"  # of the processes that torchrun started, the first one reports
    with open_reporter(progress, quiet=quiet or is_silent) as reporter:
        with reporter.bar("loading PyTorch", None):
            from sparsesearch.app.change_recipe import changed
            from sparsesearch.app.retrain_on_devices import retrain_on_devices
            from sparsesearch.app.track_retraining import MlflowRetraining
            from sparsesearch.training.launched import rank_of_launch

        if is_edited(recipe):
            reporter.line(f"note: {recipe} is not as sparsesearch wrote it: it was edited, or it is damaged")
        wanted = changed(
            wanted,
            data=data,
            weights=weights,
            preset_name=preset,
            epochs=epochs,
            data_workers=data_workers,
            compile_teacher=compile_teacher,
            progress=reporter,
        )
        settings = Settings.from_environment()
        shown = MlflowRetraining(output, settings=settings, report=reporter.line) if mlflow else None
        trained = retrain_on_devices(
            wanted,
            output,
            settings=settings,
            board=reporter.board,
            device=device or "auto",
            restart=restart,
            workers=workers_per_training,
            ray_address=ray_address,
            follow=None if shown is None else shown.epochs,
        )
        if rank_of_launch() > 0:
            return
        if shown is not None:
            shown.finish(trained)
    card = trained.card
    if as_json or not reporter.prints_summary:
        document: dict[str, object] = {
            "model": str(trained.path),
            "macs": card.macs,
            "dense_macs": trained.dense_macs,
            "metrics": card.metrics,
            "dense_metrics": trained.dense_metrics,
            "accuracy": wanted.measured.accuracy,
            "schedule": card.schedule.model_dump(mode="json"),
        }
        reporter.result(document)
        if as_json and not reporter.prints_result:
            typer.echo(json.dumps(document))
        return
    typer.echo(
        f"{trained.path}: test accuracy {card.metrics['test_top1']:.2%} at {macs_text(card.macs)} "
        f"({card.macs / trained.dense_macs:.1%} of dense); dense {trained.dense_metrics['test_top1']:.2%}"
    )
    if wanted.measured.accuracy != "ok":
        typer.echo(f"accuracy: {wanted.measured.accuracy}")
    typer.echo(f'Next, in Python: import sparsesearch; model = sparsesearch.load("{trained.path}")')
