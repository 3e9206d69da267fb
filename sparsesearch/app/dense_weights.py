"""The weights of the dense model of a retraining."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn

from sparsesearch.app.resumable_trainings import ResumableTrainings
from sparsesearch.app.retraining_log import RetrainingLog
from sparsesearch.artifacts.recipe import Recipe
from sparsesearch.seeds import derive_seed
from sparsesearch.settings import Settings
from sparsesearch.study.progress import Progress
from sparsesearch.training.cache import TrainingCache, dense_key
from sparsesearch.training.kinds import TrainingContext, dense_training, given_dense_model
from sparsesearch.training.scoring import eval_batch, evaluate_model


def dense_weights(
    context: TrainingContext,
    recipe: Recipe,
    *,
    weights: str,
    settings: Settings,
    progress: Progress,
    trainings: ResumableTrainings,
    log: RetrainingLog,
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
        return given_dense_model(context, weights=weights, progress=progress)[0].state_dict()
    trainings.run(training, context.arithmetic, seed=seed, report=partial(log.add, training.label))
    history = [(recipe.dense.epochs, measured(training.model))]
    if trainings.processes.is_first:
        cache.keep(key, training.model.state_dict(), history=history, device=device)
    return training.model.state_dict()
