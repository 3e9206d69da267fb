"""What a retraining uses, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator

from sparsesearch.artifacts.recipe import Recipe


def training_lines(recipe: Recipe, *, num_images: int) -> Iterator[str]:
    """Yield lines that state the training of a recipe.

    Args:
        recipe: The recipe, with a chosen training.
        num_images: Images of an epoch.
    """
    spec = recipe.training
    parts = [
        f"{spec.epochs} epochs of {num_images:,} images, batch {spec.batch_size}, {spec.method}",
        f"learning rate {spec.lr:g} (new parts {spec.predictor_lr:g})",
        f"weight decay {spec.weight_decay:g}",
    ]
    changes = spec.augmentation
    for word, value in (
        ("mixup", changes.mixup),
        ("cutmix", changes.cutmix),
        ("label smoothing", changes.label_smoothing),
        ("random erasing", changes.random_erasing),
        ("drop path", spec.drop_path),
        ("moving average", spec.ema_decay),
    ):
        if value:
            parts.append(f"{word} {value:g}")
    if spec.frozen_epochs:
        parts.append(f"backbone frozen for {spec.frozen_epochs} epochs")
    yield f"training: {'' if spec.preset is None else f'preset {spec.preset}, '}{', '.join(parts)}"
    if recipe.training_note is not None:
        yield f"note: {recipe.training_note}"
