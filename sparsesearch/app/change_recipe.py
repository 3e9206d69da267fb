"""Change the data, weights or training of a recipe, and choose its training once the data are known."""

from __future__ import annotations

from sparsesearch.artifacts.recipe import DEMO_NOTE, Recipe
from sparsesearch.backbones.lookup import resolve_name
from sparsesearch.papers.recipes import with_epochs
from sparsesearch.study.progress import Progress
from sparsesearch.training.published_weights import requested_weights
from sparsesearch.training.recipes import AUTO, chosen_retraining, default_fidelity, preset


def changed(
    recipe: Recipe,
    *,
    data: str | None,
    weights: str | None,
    epochs: int | None,
    progress: Progress,
    data_workers: int | None = None,
    preset_name: str | None = None,
    compile_teacher: bool | None = None,
) -> Recipe:
    """Return a recipe with other data, initial weights, or another training; None keeps the recipe's.

    Args:
        recipe: The recipe.
        data: Data source. A preset that was chosen for other data is chosen again.
        weights: Initial weights.
        epochs: Number of epochs.
        data_workers: Number of loader processes.
        progress: Receives warnings.
        preset_name: Name of a preset of the training.
        compile_teacher: Whether the teacher is compiled.

    Raises:
        SpecError: There is no such preset.
    """
    backbone = resolve_name(recipe.backbone)
    is_other = data is not None and data != recipe.data.source
    if is_other:
        if recipe.note == DEMO_NOTE:
            progress.line(f"warning: this schedule was {DEMO_NOTE}; search on {data} instead")
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"source": data})})
    if data_workers is not None:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"workers": data_workers})})
    if weights is not None:
        recipe = recipe.model_copy(update={"weights": requested_weights(weights, backbone=backbone)})
    if compile_teacher is not None:
        recipe = recipe.model_copy(update={"compile": compile_teacher})
    training = recipe.training
    if preset_name is not None and preset_name != AUTO:
        training = preset(preset_name, backbone, weights=recipe.weights)
    elif preset_name == AUTO or (is_other and training.preset is not None):
        training = default_fidelity(backbone, weights=recipe.weights, is_demo=recipe.data.is_demo).retrain
    if epochs is not None:
        training = with_epochs(training, epochs)
    return recipe.with_training(training)


def settled(recipe: Recipe, *, weights: str, num_train: int) -> Recipe:
    """Return a recipe whose weights are known, and whose training is chosen, if that was left open.

    Args:
        recipe: The recipe.
        weights: Initial weights, as they were found.
        num_train: Number of training images of its data.
    """
    training = chosen_retraining(
        recipe.training,
        resolve_name(recipe.backbone),
        weights=weights,
        num_train=num_train,
        is_demo=recipe.data.is_demo,
        asked_weights=recipe.weights,
    )
    return recipe.model_copy(update={"weights": weights}).with_training(training)
