"""The arguments of timm's train.py are those of the recipe's training."""

from __future__ import annotations

import argparse
import shlex

from sample_recipe import sample_recipe

from sparsesearch.deploy.timm_arguments import timm_arguments
from sparsesearch.study.spec import DataSpec, TrainSpec


def read(text: str) -> dict[str, object]:
    """As `train.py` reads them."""
    parser = argparse.ArgumentParser()
    for name in ("data-dir", "model", "model-kwargs", "interpolation", "opt", "aa"):
        parser.add_argument(f"--{name}")
    for name in ("num-classes", "epochs", "batch-size", "warmup-epochs"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("crop-pct", "lr", "weight-decay", "min-lr", "smoothing", "clip-grad", "drop-path", "mixup", "cutmix"):
        parser.add_argument(f"--{name}", type=float)
    parser.add_argument("--reprob", type=float)
    parser.add_argument("--input-size", type=int, nargs=3)
    parser.add_argument("--mean", type=float, nargs="+")
    parser.add_argument("--std", type=float, nargs="+")
    parser.add_argument("--model-ema", action="store_true")
    parser.add_argument("--model-ema-decay", type=float)
    return vars(parser.parse_args(shlex.split(text)))


def test_of_a_folder_with_everything_set() -> None:
    recipe = sample_recipe(training=TrainSpec(epochs=3))
    augmentation = recipe.training.augmentation.model_copy(
        update={"mixup": 0.8, "cutmix": 1.0, "label_smoothing": 0.1, "random_erasing": 0.25}
    )
    training = recipe.training.model_copy(
        update={
            "epochs": 30, "batch_size": 256, "lr": 1e-4, "final_lr": 0.01, "warmup": 0.1, "drop_path": 0.2,
            "ema_decay": 0.9999, "clip_grad": 1.0, "augmentation": augmentation,
        }
    )  # fmt: skip
    changes = {"backbone": "deit_s", "in_chans": 3, "image_size": 224, "training": training}
    recipe = recipe.model_copy(update={**changes, "data": DataSpec(source="folder:/data/my flowers")})
    found = read(timm_arguments(recipe, "my best.yaml"))
    assert found["model"] == "sparse_deit_small_patch16_224"
    assert found["model_kwargs"] == "schedule=my best.yaml"
    assert found["data_dir"] == "/data/my flowers"
    assert found["input_size"] == [3, 224, 224]
    assert len(found["mean"]) == len(found["std"]) == 3
    assert found["num_classes"] == recipe.num_classes
    expected = {
        "epochs": 30, "batch_size": 256, "lr": 1e-4, "min_lr": 1e-6, "warmup_epochs": 3, "drop_path": 0.2, "mixup": 0.8,
        "cutmix": 1.0, "smoothing": 0.1, "reprob": 0.25, "clip_grad": 1.0, "model_ema": True, "model_ema_decay": 0.9999,
        "opt": "adamw", "aa": augmentation.rand_augment,
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected


def test_what_is_off_is_left_out() -> None:
    found = read(timm_arguments(sample_recipe(training=TrainSpec(epochs=3)), "best.yaml"))
    assert found["data_dir"] is None
    assert found["input_size"] == [1, 32, 32]
    assert (found["mixup"], found["cutmix"], found["aa"], found["model_ema"]) == (None, None, None, False)
