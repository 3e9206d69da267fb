"""Train a recipe in full and evaluate it on the test split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from sparsesearch.app.change_recipe import settled
from sparsesearch.app.dense_weights import dense_weights
from sparsesearch.app.resumable_trainings import ResumableTrainings
from sparsesearch.app.retraining_evaluation import Kind, RetrainingEvaluation
from sparsesearch.app.retraining_log import EpochRow, RetrainingLog
from sparsesearch.app.training_text import training_lines
from sparsesearch.app.verify_cost import check_count
from sparsesearch.artifacts.checkpoint import ImagePreprocessing, ModelCard, save
from sparsesearch.artifacts.recipe import Recipe
from sparsesearch.backbones.lookup import resolve_name
from sparsesearch.backbones.transforms import set_schedule_
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.data.inputs import preprocessing_for, task_geometry
from sparsesearch.data.test_split import TestedTask, open_test
from sparsesearch.errors import SpecError
from sparsesearch.evaluate.throughput import choose_arithmetic, open_device
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.seeds import derive_seed
from sparsesearch.settings import Settings
from sparsesearch.study.progress import Progress
from sparsesearch.study.stop import StopToken
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.augmentation import check_pairs
from sparsesearch.training.kinds import TrainingContext, sparse_training
from sparsesearch.training.launched import launched
from sparsesearch.training.loop import TrainingRun
from sparsesearch.training.processes import Processes
from sparsesearch.training.published_weights import resolve_weights, weights_identity
from sparsesearch.training.scoring import eval_batch, evaluate_model
from sparsesearch.training.teacher import Teacher
from sparsesearch.training.weights import check_weights

Follow = Callable[[Recipe, BackboneGeometry, Sequence[EpochRow]], None]
"""Receives what is trained, and the rows of all epochs so far."""


@dataclass(frozen=True)
class Retrained:
    """A trained sparse model on disk.

    Attributes:
        path: The safetensors file.
        card: Its metadata, including test metrics.
        dense_metrics: Test metrics of the dense model, its teacher.
        dense_macs: Multiply-adds of one image through the dense model.
        geometry: The backbone.
        recipe: What was trained, in full.
    """

    path: Path
    card: ModelCard
    dense_metrics: dict[str, float]
    dense_macs: int
    geometry: BackboneGeometry
    recipe: Recipe


def retrain(
    recipe: Recipe,
    path: Path,
    *,
    settings: Settings,
    progress: Progress,
    device: str = "auto",
    restart: bool = False,
    stop: StopToken | None = None,
    follow: Follow | None = None,
) -> Retrained:
    """Train the dense model if needed, then the schedule in full, and evaluate both on the test split.

    All training images are used, also those that the search held out. Checkpoints are kept in `PATH.checkpoints/` until
    the file is written, so that the same call goes on where an earlier one ended; what each epoch gave is written to
    `PATH.log.jsonl`. Processes that `torchrun` started train together. The test split is opened here and nowhere in
    the search.

    Args:
        recipe: What to train.
        path: Output safetensors file.
        settings: Where shared trainings are.
        progress: Reports progress.
        device: `auto`, `cpu` or `cuda[:N]`.
        restart: Whether to begin anew, without the checkpoints of an earlier call.
        stop: Set to stop; Ctrl-C and SIGTERM set it as well.
        follow: Told of every epoch.

    Raises:
        StoppedError: Ctrl-C or SIGTERM; everything up to the last step is kept.
        SpecError: The recipe contradicts itself: its cost is not that of its schedule; or there is no such device.
        DataError: The data cannot be read.
        CheckpointError: The initial weights do not fit.
    """
    with launched(open_device(device)) as (processes, opened):
        return _retrain(
            recipe,
            path,
            settings=settings,
            progress=progress,
            device=opened,
            processes=processes,
            restart=restart,
            stop=stop or StopToken(),
            follow=follow,
        )


def _retrain(
    recipe: Recipe,
    path: Path,
    *,
    settings: Settings,
    progress: Progress,
    device: torch.device,
    processes: Processes,
    restart: bool,
    stop: StopToken,
    follow: Follow | None,
) -> Retrained:
    backbone = resolve_name(recipe.backbone)
    task = _open_data(recipe, backbone, processes=processes, progress=progress)
    whole = task.with_held_out()
    geometry = task_geometry(backbone, task)
    cost = AnalyticCost().estimate(geometry, recipe.schedule)
    if task.num_classes == recipe.num_classes and cost.macs != recipe.measured.macs:
        raise SpecError(
            f"the recipe states {recipe.measured.macs:,} multiply-adds, but its schedule on {backbone} costs "
            f"{cost.macs:,}; the file was edited or written by another version: export it again"
        )
    weights, line = resolve_weights(recipe.weights, backbone=backbone, or_scratch=recipe.data.is_demo)
    if line is not None:
        progress.line(line)
    recipe = settled(recipe, weights=weights, num_train=whole.num_train)
    num_images = min(recipe.training.images_per_epoch or whole.num_train, whole.num_train)
    check_pairs(recipe.training, num_images=num_images, world=processes.world)
    progress.line(check_weights(weights, backbone=backbone, task=task).loaded)
    for text in training_lines(recipe, num_images=num_images):
        progress.line(text)
    if recipe.precision == "auto":
        # Measured in one process: others could come to another precision.
        choose = partial(choose_arithmetic, "auto", device=device, backbone=backbone, geometry=geometry, task=task)
        arithmetic = Arithmetic(device, processes.from_first(lambda: choose()[0].dtype))
    else:
        arithmetic = Arithmetic.of(recipe.precision, device=device)
    arithmetic = replace(arithmetic, compiles=recipe.compile)
    check_count(backbone, recipe.schedule, task=task, expected=cost.macs)
    context = TrainingContext(backbone, geometry, task, arithmetic, seed=recipe.seed)
    document = recipe.model_dump_json(exclude={"data": {"workers"}, "compile": True})
    identity = {
        "recipe": hashlib.sha256(document.encode()).hexdigest(),
        "data": task.fingerprint,
        "images": whole.num_train,
        "weights": weights_identity(backbone, weights),
        "file": path.name,
    }
    trainings = ResumableTrainings(
        path.with_name(f"{path.name}.checkpoints"),
        identity=identity,
        processes=processes,
        progress=progress,
        stop=stop,
    )
    if restart:
        trainings.clear()
    log = RetrainingLog(
        path.with_name(f"{path.name}.log.jsonl"),
        progress=progress,
        follow=lambda rows: None if follow is None else follow(recipe, geometry, rows),
    )
    if processes.is_first and not trainings.is_begun:
        log.clear()
    dense = dense_weights(
        context, recipe, weights=weights, settings=settings, progress=progress, trainings=trainings, log=log
    )
    teacher_model = context.model_with(dense)
    uses = recipe.training.epochs * num_images
    teacher = Teacher(teacher_model, whole, arithmetic=arithmetic, use_pool=uses >= whole.num_train)
    training = sparse_training(
        replace(context, task=whole),
        recipe.training,
        schedule=recipe.schedule,
        start=dense,
        teacher=teacher,
        seed=derive_seed(recipe.seed, "retrain"),
        label="retraining",
    )
    evaluation = RetrainingEvaluation(task, is_validation_new=whole is task, geometry=geometry, arithmetic=arithmetic)

    def models(run: TrainingRun) -> dict[Kind, nn.Module]:
        found: dict[Kind, nn.Module] = {"trained": training.model}
        return found if run.average is None else {**found, "average": run.average}

    run = trainings.run(
        training,
        arithmetic,
        seed=derive_seed(recipe.seed, "retrain"),
        report=lambda run, loss, seconds: log.add(
            training.label, run, loss, seconds, evaluation.after_epoch(models(run), num_images=num_images)
        ),
    )
    size = eval_batch(geometry)
    chosen = evaluation.better(models(run))
    model = models(run)[chosen]
    metrics: dict[str, float] = {}
    for kind, trained in models(run).items():
        set_schedule_(trained, recipe.schedule)
        found = evaluate_model(trained, task.test(batch_size=size), arithmetic=evaluation.exact).metrics("test")
        metrics |= {name if kind == chosen else f"{kind}_{name}": value for name, value in found.items()}
    dense_metrics = evaluate_model(teacher_model, task.test(batch_size=size), arithmetic=evaluation.exact)
    dense_macs = AnalyticCost().estimate(geometry, Schedule()).macs
    files = preprocessing_for(backbone, recipe.data, in_chans=task.in_chans, image_size=task.image_size)
    card = ModelCard(
        backbone=backbone,
        schedule=recipe.schedule,
        num_classes=task.num_classes,
        in_chans=task.in_chans,
        image_size=task.image_size,
        class_names=task.class_names,
        preprocessing=ImagePreprocessing.of(files),
        metrics=metrics,
        macs=cost.macs,
        dense_macs=dense_macs,
        data=recipe.data,
        weights=chosen,
    )
    if processes.is_first:
        save(model, path, card=card)
    trainings.clear()
    return Retrained(path, card, dense_metrics.metrics("test"), dense_macs, geometry, recipe)


def _open_data(recipe: Recipe, backbone: str, *, processes: Processes, progress: Progress) -> TestedTask:
    """Open the data in all processes; the first one looks at the files for all of them."""
    here: list[TestedTask] = []

    def look() -> str:
        here.append(open_test(recipe.data, backbone=backbone, progress=progress))
        return here[0].state

    state = processes.from_first(look)
    return here[0] if here else open_test(recipe.data, backbone=backbone, state=state)
