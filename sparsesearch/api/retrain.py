"""`sparsesearch.retrain`."""

from __future__ import annotations

from pathlib import Path

from sparsesearch.app.change_recipe import changed
from sparsesearch.app.retrain import Retrained
from sparsesearch.app.retrain_on_devices import retrain_on_devices
from sparsesearch.app.track_retraining import MlflowRetraining
from sparsesearch.artifacts.output_files import check_new_file
from sparsesearch.artifacts.recipe import Recipe, read_recipe
from sparsesearch.console.choose import ProgressMode, open_reporter
from sparsesearch.settings import Settings


def retrain(
    recipe: str | Path | Recipe,
    output: str | Path = "model.safetensors",
    *,
    data: str | None = None,
    weights: str | Path | None = None,
    preset: str | None = None,
    epochs: int | None = None,
    data_workers: int | None = None,
    compile: bool = False,
    device: str = "auto",
    mlflow: bool = True,
    progress: str = "auto",
    force: bool = False,
    restart: bool = False,
    workers_per_training: int | None = None,
    ray_address: str | None = None,
) -> Retrained:
    """Train a recipe in full, evaluate it on the test split, and save it; the same as `sparsesearch retrain`.

    Args:
        recipe: A recipe, or its file, as `Study.export` writes it.
        output: Output file; `sparsesearch.load` reads it.
        data: Training data, in the words of `run`; by default the recipe's.
        weights: Initial weights of the dense model; by default the recipe's.
        preset: Training: `short`, or a paper's by its model, such as `deit_s`; `auto` suits weights and data; by
            default the recipe's.
        epochs: Epochs of the sparse training; by default the recipe's.
        data_workers: Processes that decode images; by default the CPU cores less one, at least 1.
        compile: Compile the teacher with `torch.compile`, if it has a class token.
        device: `auto`, `cpu` or `cuda[:N]`.
        mlflow: Whether the training is logged to MLflow, as a run below that of its study.
        progress: As in `run`.
        force: Whether an existing file is overwritten.
        restart: Whether to begin anew, without the checkpoints of an earlier call in `OUTPUT.checkpoints`.
        workers_per_training: Processes that train together, on Ray; by default one on each GPU, or one on CPUs.
        ray_address: `auto` or `HOST:PORT` of a Ray cluster; by default this machine.

    Returns:
        The trained model's file, its metrics on the test split, and those of the dense model.

    Raises:
        SpecError: The recipe contradicts itself, there is no such preset, or the output exists or cannot be written.
        DataError: The data cannot be read.
        CheckpointError: The initial weights do not fit.
    """
    found = recipe if isinstance(recipe, Recipe) else read_recipe(Path(recipe))
    path = check_new_file(Path(output), force=force)
    start = None if weights is None else str(weights)
    with open_reporter(ProgressMode(progress)) as reporter:
        wanted = changed(
            found,
            data=data,
            weights=start,
            preset_name=preset,
            epochs=epochs,
            data_workers=data_workers,
            compile_teacher=compile or None,
            progress=reporter,
        )
        settings = Settings.from_environment()
        shown = MlflowRetraining(path, settings=settings, report=reporter.line) if mlflow else None
        trained = retrain_on_devices(
            wanted,
            path,
            settings=settings,
            board=reporter.board,
            device=device,
            restart=restart,
            workers=workers_per_training,
            ray_address=ray_address,
            follow=None if shown is None else shown.epochs,
        )
        if shown is not None:
            shown.finish(trained)
    return trained
