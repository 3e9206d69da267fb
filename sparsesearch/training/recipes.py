"""Default training recipes, used unless the study document overrides them."""

from __future__ import annotations

from sparsesearch.backbones.lookup import is_small
from sparsesearch.study.spec import FidelitySpec, TrainSpec

_EVALUATIONS_OF_FRONT, _FINALISTS_OF_FRONT = 200, 24


def default_fidelity(backbone: str, *, weights: str) -> FidelitySpec:
    """Default training phases of a backbone (resolved name), given the source of its weights.

    The recipe of the pico backbones was tuned on the bundled task. With published weights, the learning rates follow
    DynamicViT's fine-tuning (arXiv:2106.02034, section 4: predictors 1e-3, backbone 1e-5 at batch 1024); that of the
    backbone is slightly higher because of the smaller batch and the shorter training.
    """
    if is_small(backbone):
        return FidelitySpec()
    if weights == "scratch":
        return FidelitySpec(
            dense=TrainSpec(epochs=12, lr=5e-4, warmup=0.2),
            supernet_training=TrainSpec(epochs=4, images_per_epoch=5376, lr=1e-4, predictor_lr=1e-3),
            finetune=TrainSpec(epochs=2, images_per_epoch=2560, lr=1e-4, predictor_lr=1e-3),
            retrain=TrainSpec(epochs=8, images_per_epoch=5376, lr=2e-4, predictor_lr=1e-3),
        )
    return FidelitySpec(
        dense=TrainSpec(epochs=5, lr=5e-5, warmup=0.1),
        supernet_training=TrainSpec(epochs=3, lr=2e-5, predictor_lr=1e-3),
        finetune=TrainSpec(epochs=1, lr=2e-5, predictor_lr=1e-3),
        retrain=TrainSpec(epochs=30, lr=2e-5, predictor_lr=1e-3),
    )


def for_a_front(fidelity: FidelitySpec) -> FidelitySpec:
    """The phases for a range of budgets: more schedules are evaluated, and more finalists fine-tuned."""
    return fidelity.model_copy(update={"evaluations": _EVALUATIONS_OF_FRONT, "finalists": _FINALISTS_OF_FRONT})
