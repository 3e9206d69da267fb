"""The arguments of timm's `train.py` that train a recipe as `retrain` would, but for distillation."""

from __future__ import annotations

import math
import shlex

from timm.models import split_model_name_tag

from sparsesearch.artifacts.recipe import Recipe
from sparsesearch.backbones.lookup import resolve_name
from sparsesearch.data.inputs import preprocessing_for
from sparsesearch.deploy.formats.timm import PREFIX
from sparsesearch.schedule.image_size import sides


def timm_arguments(recipe: Recipe, path: str) -> str:
    """The arguments, as they are typed into a shell.

    The number of images of a step is that of all processes: divide `--batch-size` by their number.

    Args:
        recipe: What is to be trained.
        path: The file of the recipe.
    """
    backbone, training = resolve_name(recipe.backbone), recipe.training
    files = preprocessing_for(backbone, recipe.data, in_chans=recipe.in_chans, image_size=recipe.image_size)
    kind, _, place = recipe.data.source.partition(":")
    warmup = training.warmup * training.epochs
    given: dict[str, object] = {
        **({"data-dir": place} if kind == "folder" and place else {}),
        "model": PREFIX + split_model_name_tag(backbone)[0],
        "model-kwargs": f"schedule={path}",
        "num-classes": recipe.num_classes,
        "input-size": (files.in_chans, *sides(files.image_size)),
        "mean": files.mean[: files.in_chans],
        "std": files.std[: files.in_chans],
        "interpolation": files.interpolation,
        "crop-pct": files.crop_pct,
        "epochs": training.epochs,
        "batch-size": training.batch_size,
        "opt": "adamw",
        "lr": training.lr,
        "weight-decay": training.weight_decay,
        "warmup-epochs": math.ceil(warmup) if warmup >= 1 else 0,
        "min-lr": training.lr * training.final_lr,
        "smoothing": training.augmentation.label_smoothing,
        **_where_set(
            {
                "clip-grad": training.clip_grad,
                "drop-path": training.drop_path,
                "mixup": training.augmentation.mixup,
                "cutmix": training.augmentation.cutmix,
                "reprob": training.augmentation.random_erasing,
                "aa": training.augmentation.rand_augment if files.in_chans == 3 else None,
            }
        ),
    }
    words = [f"--{name} {_text(value)}" for name, value in given.items()]
    if training.ema_decay is not None:
        words.append(f"--model-ema --model-ema-decay {training.ema_decay:g}")
    if training.grad_checkpointing:
        words.append("--grad-checkpointing")
    return " ".join(words)


def _where_set(options: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if value}


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else shlex.quote(str(value))
