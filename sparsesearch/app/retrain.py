"""Train a recipe in full and evaluate it on the test split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sparsesearch.artifacts.checkpoint import ImagePreprocessing, ModelCard, save
from sparsesearch.artifacts.recipe import DEMO_NOTE, Recipe
from sparsesearch.backbones.lookup import resolve_name
from sparsesearch.backbones.traced import traced_macs
from sparsesearch.backbones.transforms import set_schedule_
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.data.inputs import preprocessing_for, task_geometry
from sparsesearch.data.test_split import open_test
from sparsesearch.errors import SpecError
from sparsesearch.evaluate.throughput import choose_arithmetic, open_device
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.seeds import derive_seed
from sparsesearch.settings import Settings
from sparsesearch.study.progress import Progress
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.cache import TrainingCache, dense_key
from sparsesearch.training.kinds import Training, TrainingContext, dense_training, given_dense_model, sparse_training
from sparsesearch.training.loop import TrainingRun
from sparsesearch.training.published_weights import resolve_weights
from sparsesearch.training.scoring import eval_batch, evaluate_model
from sparsesearch.training.teacher import Teacher
from sparsesearch.training.weights import check_weights


@dataclass(frozen=True)
class Retrained:
    """A trained sparse model on disk.

    Attributes:
        path: The safetensors file.
        card: Its metadata, including test metrics.
        dense_metrics: Test metrics of the dense model, its teacher.
        dense_macs: Multiply-adds of one image through the dense model.
        geometry: The backbone.
    """

    path: Path
    card: ModelCard
    dense_metrics: dict[str, float]
    dense_macs: int
    geometry: BackboneGeometry


def changed(recipe: Recipe, *, data: str | None, weights: str | None, epochs: int | None, progress: Progress) -> Recipe:
    """Return a recipe with other data, other initial weights or another number of epochs; None keeps the recipe's."""
    if data is not None and data != recipe.data.source:
        if recipe.note == DEMO_NOTE:
            progress.line(f"warning: this schedule was {DEMO_NOTE}; search on {data} instead")
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"source": data})})
    if weights is not None:
        recipe = recipe.model_copy(update={"weights": weights})
    if epochs is not None:
        recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"epochs": epochs})})
    return recipe


def retrain(recipe: Recipe, path: Path, *, settings: Settings, progress: Progress, device: str = "auto") -> Retrained:
    """Train the dense model if needed, then the schedule in full, and evaluate both on the test split.

    The test split is opened here and nowhere in the search.

    Args:
        recipe: What to train.
        path: Output safetensors file.
        settings: Where shared trainings are.
        progress: Reports progress.
        device: `auto`, `cpu` or `cuda[:N]`.

    Raises:
        SpecError: The recipe contradicts itself: its cost is not that of its schedule; or there is no such device.
        DataError: The data cannot be read.
        CheckpointError: The initial weights do not fit.
    """
    opened = open_device(device)
    backbone = resolve_name(recipe.backbone)
    task = open_test(recipe.data, backbone=backbone, progress=progress)
    geometry = task_geometry(backbone, task)
    cost = AnalyticCost().estimate(geometry, recipe.schedule)
    if task.num_classes == recipe.num_classes and cost.macs != recipe.measured.macs:
        raise SpecError(
            f"the recipe states {recipe.measured.macs:,} multiply-adds, but its schedule on {backbone} costs "
            f"{cost.macs:,}; the file was edited or written by another version: export it again"
        )
    weights, line = resolve_weights(recipe.weights, backbone=backbone)
    if line is not None:
        progress.line(line)
    progress.line(check_weights(weights, backbone=backbone, task=task))
    if recipe.precision == "auto":
        chosen = choose_arithmetic("auto", device=opened, backbone=backbone, geometry=geometry, task=task)
        arithmetic = chosen[0]
    else:
        arithmetic = Arithmetic.of(recipe.precision, device=opened)
    context = TrainingContext(backbone, geometry, task, arithmetic, seed=recipe.seed)
    dense = _dense_weights(context, recipe, weights=weights, settings=settings, progress=progress)
    teacher_model = context.model_with(dense)
    uses = recipe.training.epochs * (recipe.training.images_per_epoch or task.num_train)
    teacher = Teacher(teacher_model, task, arithmetic=arithmetic, use_pool=uses >= task.num_train)
    training = sparse_training(
        context,
        recipe.training,
        schedule=recipe.schedule,
        start=dense,
        teacher=teacher,
        seed=derive_seed(recipe.seed, "retrain"),
        label="retraining",
    )
    _run(training, arithmetic, seed=derive_seed(recipe.seed, "retrain"), progress=progress)
    model = training.model
    set_schedule_(model, recipe.schedule)
    size = eval_batch(geometry)
    sparse_metrics = evaluate_model(model, task.test(batch_size=size), arithmetic=arithmetic).metrics("test")
    dense_metrics = evaluate_model(teacher_model, task.test(batch_size=size), arithmetic=arithmetic)
    one_image = torch.zeros(1, task.in_chans, *geometry.image_size, device=arithmetic.device)
    counted = traced_macs(model, one_image)
    assert counted == cost.macs, f"closed form {cost.macs} and traced count {counted} differ"
    files = preprocessing_for(backbone, recipe.data, in_chans=task.in_chans, image_size=task.image_size)
    card = ModelCard(
        backbone=backbone,
        schedule=recipe.schedule,
        num_classes=task.num_classes,
        in_chans=task.in_chans,
        image_size=task.image_size,
        class_names=task.class_names,
        preprocessing=ImagePreprocessing(
            mean=files.mean[: files.in_chans],
            std=files.std[: files.in_chans],
            interpolation=files.interpolation,
            crop_pct=files.crop_pct,
        ),
        metrics=sparse_metrics,
        macs=cost.macs,
    )
    save(model, path, card=card)
    dense_macs = AnalyticCost().estimate(geometry, Schedule()).macs
    return Retrained(path, card, dense_metrics.metrics("test"), dense_macs, geometry)


def _dense_weights(
    context: TrainingContext, recipe: Recipe, *, weights: str, settings: Settings, progress: Progress
) -> Mapping[str, Tensor]:
    """Return the weights of the dense model: from the training cache, given with a head, or trained now."""
    cache, device = TrainingCache(settings.cache, report=progress.line), context.arithmetic.device

    def measured(model: nn.Module) -> dict[str, float]:
        batches = context.task.val("confirm", batch_size=eval_batch(context.geometry))
        return evaluate_model(model, batches, arithmetic=context.arithmetic).metrics("val")

    key = dense_key(
        backbone=context.backbone,
        geometry=context.geometry,
        num_classes=context.task.num_classes,
        weights=weights,
        data_fingerprint=context.task.fingerprint,
        training=recipe.dense,
        seed=recipe.seed,
        arithmetic=context.arithmetic,
    )
    stored = cache.find(key, measure=lambda tensors: measured(context.model_with(tensors)), device=device)
    if stored is not None:
        return stored.tensors
    seed = derive_seed(recipe.seed, "dense")
    training = dense_training(context, recipe.dense, weights=weights, seed=seed)
    if training is None:
        return given_dense_model(context, weights=weights)[0].state_dict()
    _run(training, context.arithmetic, seed=seed, progress=progress)
    history = [(recipe.dense.epochs, measured(training.model))]
    cache.keep(key, training.model.state_dict(), history=history, device=device)
    return training.model.state_dict()


def _run(training: Training, arithmetic: Arithmetic, *, seed: int, progress: Progress) -> None:
    run = TrainingRun(training.model, training.spec, steps_per_epoch=training.steps_per_epoch, arithmetic=arithmetic)
    total = training.spec.epochs * training.steps_per_epoch
    with progress.bar(training.label, total, batch_size=training.spec.batch_size) as bar:
        while run.epochs_done < training.spec.epochs:
            epoch = run.epochs_done + 1
            run.epoch(training.batches(epoch), training.objective, seed=derive_seed(seed, "epoch", epoch), bar=bar)
