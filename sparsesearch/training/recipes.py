"""Default training recipes, used unless the study document overrides them."""

from __future__ import annotations

from sparsesearch.backbones.lookup import is_small, resolve_name
from sparsesearch.errors import SpecError
from sparsesearch.papers.recipes import PAPER_RECIPES, with_epochs
from sparsesearch.study.spec import FidelitySpec, TrainSpec

DEMO, SHORT = "demo", "short"
"""Presets of `retrain` for the bundled task, and for other data that are small or backbones that no paper trained."""
AUTO = "auto"
NUM_LARGE = 500_000
"""Training images from which data are as large as those of the papers, ImageNet's 1.28 million."""

_EVALUATIONS_OF_FRONT, _FINALISTS_OF_FRONT = 200, 24


def default_fidelity(backbone: str, *, weights: str, is_demo: bool) -> FidelitySpec:
    """Default training phases of a backbone (resolved name), given the source of its weights.

    The recipe of the pico backbones was tuned on the bundled task, and so was the length of its epochs; on other data
    an epoch is the whole training split. With published weights, the learning rates follow
    DynamicViT's fine-tuning (arXiv:2106.02034, section 4: predictors 1e-3, backbone 1e-5 at batch 1024); that of the
    backbone is slightly higher because of the smaller batch and the shorter training.
    """
    fidelity = _tuned(backbone, weights=weights)
    if is_demo:
        return fidelity
    phases = {name: getattr(fidelity, name) for name in ("supernet_training", "finetune", "retrain")}
    return fidelity.model_copy(
        update={name: phase.model_copy(update={"images_per_epoch": None}) for name, phase in phases.items()}
    )


def _tuned(backbone: str, *, weights: str) -> FidelitySpec:
    if is_small(backbone):
        return FidelitySpec()
    if weights == "scratch":
        return FidelitySpec(
            dense=TrainSpec(epochs=12, lr=5e-4, warmup=0.2),
            supernet_training=TrainSpec(epochs=4, images_per_epoch=5376, lr=1e-4, predictor_lr=1e-3),
            finetune=TrainSpec(epochs=2, images_per_epoch=2560, lr=1e-4, predictor_lr=1e-3),
            retrain=TrainSpec(preset=AUTO, epochs=8, images_per_epoch=5376, lr=2e-4, predictor_lr=1e-3),
        )
    return FidelitySpec(
        dense=TrainSpec(epochs=5, lr=5e-5, warmup=0.1),
        supernet_training=TrainSpec(epochs=3, lr=2e-5, predictor_lr=1e-3),
        finetune=TrainSpec(epochs=1, lr=2e-5, predictor_lr=1e-3),
        retrain=TrainSpec(preset=AUTO, epochs=30, lr=2e-5, predictor_lr=1e-3),
    )


def for_a_front(fidelity: FidelitySpec) -> FidelitySpec:
    """The phases for a range of budgets: more schedules are evaluated, and more finalists fine-tuned."""
    return fidelity.model_copy(update={"evaluations": _EVALUATIONS_OF_FRONT, "finalists": _FINALISTS_OF_FRONT})


def preset_names() -> list[str]:
    """The names of all presets of `retrain`."""
    return [SHORT, DEMO, *PAPER_RECIPES]


def preset(name: str, backbone: str, *, weights: str) -> TrainSpec:
    """A preset of `retrain` by name.

    Args:
        name: `short`, `demo`, or the model of a paper's recipe, which may be another one than the backbone.
        backbone: The backbone (resolved name).
        weights: Where its weights are from.

    Raises:
        SpecError: There is no such preset.
    """
    if name in PAPER_RECIPES:
        return PAPER_RECIPES[name]
    if name not in (SHORT, DEMO):
        raise SpecError(f"unknown preset {name!r} of retrain; choose from {', '.join(preset_names())}")
    found = default_fidelity(backbone, weights=weights, is_demo=name == DEMO).retrain
    return found.model_copy(update={"preset": name})


def chosen_retraining(
    written: TrainSpec,
    backbone: str,
    *,
    weights: str,
    num_train: int,
    is_demo: bool,
    asked_weights: str | None = None,
) -> TrainSpec:
    """The training of an exported schedule, now that the data are known.

    Large data and published or given weights get the paper's recipe of the backbone, other data the short one, with all
    of their images. What was written in the document goes before.

    Args:
        written: The training of the document, with the defaults of `default_fidelity`.
        backbone: The backbone (resolved name).
        weights: Where its weights are from.
        num_train: Number of training images.
        is_demo: Whether the data are the bundled task.
        asked_weights: The weights that the defaults were for, if there are others now.
    """
    if written.preset != AUTO:
        return written
    of_paper = next((name for name in PAPER_RECIPES if resolve_name(name) == backbone.partition(".")[0]), None)
    name = DEMO if is_demo else SHORT
    if of_paper is not None and not is_demo and weights != "scratch" and num_train >= NUM_LARGE:
        name = of_paper
    default = dict(default_fidelity(backbone, weights=asked_weights or weights, is_demo=is_demo).retrain)
    changes = {key: value for key, value in dict(written).items() if value != default[key]}
    found = preset(name, backbone, weights=weights).model_copy(update=changes)
    return with_epochs(found, found.epochs)
