"""Estimate the seconds of each phase of a study."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sparsesearch.analysis.phases import num_rescored
from sparsesearch.data.task import Task
from sparsesearch.data.validation_size import num_more_images
from sparsesearch.evaluate.rates import Rates
from sparsesearch.study.spec import FidelitySpec, TrainSpec

_INTERIM_VAL = 960  # images that are validated after every epoch but the last


def estimate(
    fidelity: FidelitySpec,
    rates: Rates,
    *,
    task: Task,
    num_val: int,
    num_baselines: int,
    num_counted: int = 0,
    found: Collection[str] = (),
) -> dict[str, float]:
    """Estimate the seconds of each phase; trainings whose result is found are only validated.

    Args:
        fidelity: How candidates are evaluated.
        rates: How long an image takes in each phase.
        task: Training data.
        num_val: Validation images of an evaluation.
        num_baselines: Number of hand-crafted baselines.
        num_counted: Images from which token counts are learned.
        found: Trainings that will not run.
    """

    def used(spec: TrainSpec) -> int:
        return spec.epochs * min(spec.images_per_epoch or task.num_train, task.num_train)

    def validated(spec: TrainSpec) -> int:
        return (spec.epochs - 1) * min(num_val, _INTERIM_VAL) + num_val

    dense = used(fidelity.dense) * rates.dense + validated(fidelity.dense) * rates.validate
    training = fidelity.supernet_training
    supernet = used(training) * rates.supernet + validated(training) * rates.validate
    one_finetune = used(fidelity.finetune) * rates.finetune + validated(fidelity.finetune) * rates.validate_sparse
    compared = num_compared(num_baselines)
    if not is_screened(fidelity):
        seconds = {"dense": dense, "finetune": one_finetune * (fidelity.evaluations + compared)}
    else:
        seconds = {
            "dense": dense,
            **({"supernet_training": supernet} if fidelity.trains_supernet else {}),
            "screen": (fidelity.evaluations + num_baselines) * num_val * rates.screen,
            "finetune": one_finetune * (fidelity.finalists + compared) if fidelity.finalists else 0.0,
        }
        num_more = num_more_images(task.num_ranking, num_val)
        rescored = num_rescored(fidelity, num_more_images=num_more)
        if not fidelity.finalists:
            seconds["rescore"] = (rescored + num_baselines) * num_val * rates.screen
        elif rescored:
            seconds["rescore"] = rescored * num_more * rates.screen
    if num_counted:
        seconds["counts"] = num_counted * rates.counts
    return seconds | {phase: num_val * rates.validate for phase in found}


def num_compared(num_baselines: int) -> int:
    """Return the number of fine-tunings to compare with: the hand-crafted schedules, and with them the dense model."""
    return num_baselines + 1 if num_baselines else 0


def is_screened(fidelity: FidelitySpec) -> bool:
    """Return whether candidates are evaluated before the best ones are trained."""
    return fidelity.strategy != "finetune"


def more_finalists_s(
    requested: FidelitySpec, planned: FidelitySpec, seconds: Mapping[str, float], *, num_baselines: int, left_s: float
) -> float:
    """Return the seconds of finalists that were cut and fit into the time that is left; they are fine-tuned last."""
    if not is_screened(planned) or not planned.finalists:
        return 0.0
    one_s = seconds["finetune"] / (planned.finalists + num_compared(num_baselines))
    fitting = int(max(0.0, left_s) / one_s) if one_s > 0.0 else 0
    return one_s * min(requested.finalists - planned.finalists, fitting)
