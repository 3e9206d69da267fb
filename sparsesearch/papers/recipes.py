"""The recipes that the papers trained their sparse models with, by model."""

from __future__ import annotations

from sparsesearch.schedule import Schedule
from sparsesearch.schedule.methods import DynamicVitScorer, FastSlow, Prune
from sparsesearch.study.spec import Augmentation, TrainSpec

_AUGMENTATION = Augmentation(mixup=0.8, cutmix=1.0, label_smoothing=0.1, random_erasing=0.25)
_MASKED = ("prune", "fast_slow")
UNKNOWN_RECIPE = (
    "the recipe of the paper that this kind of schedule is from is not known here; it is trained with DynamicViT's"
)


def _recipe(
    name: str,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    lr_scale: float,
    warmup_epochs: int,
    drop_path: float,
    ratio_weight: float,
) -> TrainSpec:
    return TrainSpec(
        preset=name,
        epochs=epochs,
        batch_size=batch_size,
        micro_batch=128,
        lr=lr * lr_scale,
        predictor_lr=lr,
        final_lr=1e-6 / lr,
        frozen_epochs=5,
        train_embeddings=False,
        weight_decay=0.05,
        warmup=warmup_epochs / epochs,
        clip_grad=None,
        augmentation=_AUGMENTATION,
        drop_path=drop_path,
        ema_decay=0.9999,
        method="masked",
        ratio_weight=ratio_weight,
    )


def _isotropic(name: str, *, drop_path: float = 0.0, ratio_weight: float = 2.0) -> TrainSpec:
    return _recipe(
        name,
        epochs=30,
        batch_size=1024,
        lr=1e-3,
        lr_scale=0.01,
        warmup_epochs=5,
        drop_path=drop_path,
        ratio_weight=ratio_weight,
    )


def _hierarchical(name: str, *, drop_path: float) -> TrainSpec:
    return _recipe(
        name,
        epochs=120,
        batch_size=4096,
        lr=4e-3,
        lr_scale=0.2,
        warmup_epochs=20,
        drop_path=drop_path,
        ratio_weight=10.0,
    )


PAPER_RECIPES: dict[str, TrainSpec] = {
    "deit_s": _isotropic("deit_s"),
    "deit_b": _isotropic("deit_b", drop_path=0.2, ratio_weight=5.0),
    "lvvit_s": _isotropic("lvvit_s"),
    "lvvit_m": _isotropic("lvvit_m"),
    "convnext_t": _hierarchical("convnext_t", drop_path=0.2),
    "convnext_s": _hierarchical("convnext_s", drop_path=0.2),
    "convnext_b": _hierarchical("convnext_b", drop_path=0.5),
    "swin_t": _hierarchical("swin_t", drop_path=0.2),
    "swin_s": _hierarchical("swin_s", drop_path=0.2),
    "swin_b": _hierarchical("swin_b", drop_path=0.5),
}
"""Recipes by the name of their model. Learning rates belong to the batch size; a process computes 128 images at once.

Source: the training commands and scripts of github.com/raoyongming/DynamicViT (commit 1322e62), for
DynamicViT (arXiv:2106.02034) and Dynamic Spatial Sparsification (arXiv:2207.01580).
"""


def of_schedule(recipe: TrainSpec, schedule: Schedule) -> tuple[TrainSpec, str | None]:
    """Adapt a paper's recipe to a schedule, which may be one of another paper.

    Args:
        recipe: One of `PAPER_RECIPES`, perhaps with changes.
        schedule: What is trained.

    Returns:
        The recipe, gathered where masked training does not support the schedule; and what to know about it, if any.
    """
    if any(step.reducer.kind not in _MASKED for step in schedule.steps):
        recipe = recipe.model_copy(update={"method": "gathered", "ratio_weight": None})
    is_own = all(
        isinstance(step.reducer, Prune | FastSlow) and isinstance(step.scorer, DynamicVitScorer)
        for step in schedule.steps
    )
    return recipe, None if is_own else UNKNOWN_RECIPE


def with_epochs(recipe: TrainSpec, epochs: int) -> TrainSpec:
    """The recipe with another number of epochs, in at most a third of which the backbone is frozen."""
    frozen = min(recipe.frozen_epochs, epochs // 3)
    return recipe.model_copy(update={"epochs": epochs, "frozen_epochs": frozen})
