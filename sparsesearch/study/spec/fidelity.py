"""How candidates are evaluated."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from sparsesearch.study.spec.renamed import renamed
from sparsesearch.study.spec.training import TrainSpec
from sparsesearch.value import Value

Strategy = Literal["supernet", "finetune", "training-free"]


class RungSpec(Value):
    """Early stopping of fine-tuning by asynchronous successive halving.

    With one budget, the most accurate candidates continue (ASHA); with a range of budgets, those on or near the front
    of accuracy and cost (MO-ASHA).

    Attributes:
        first_epoch: Epochs before a candidate may be stopped.
        factor: One of `factor` candidates continues at each rung; the next rung is at `factor` times as many epochs.
    """

    first_epoch: int = Field(default=1, ge=1)
    factor: int = Field(default=3, ge=2)


class FidelitySpec(Value):
    """How candidates are evaluated, cheap before expensive.

    Attributes:
        strategy: How candidates are ranked: `supernet` trains one supernet and evaluates each candidate with the shared
            weights; `finetune` trains each from the dense model; `training-free` evaluates each with the dense weights
            and scorers that need no training.
        evaluations: Number of candidates to rank (with `finetune`: to fine-tune).
        finalists: Number of best candidates to fine-tune afterwards; they form the front. With 0, nothing is
            fine-tuned, and the front is that of the ranking.
        dense: Training of the dense model if no pretrained weights fit.
        supernet_training: The supernet training.
        finetune: Fine-tuning of one candidate.
        retrain: Full training of an exported schedule.
        rungs: Early stopping of fine-tuning of searched candidates; None for no early stopping.
    """

    strategy: Strategy = "supernet"
    evaluations: int = Field(default=60, ge=1)
    finalists: int = Field(default=5, ge=0)
    dense: TrainSpec = TrainSpec(epochs=12, lr=2e-3, warmup=0.2)
    supernet_training: TrainSpec = TrainSpec(epochs=4, images_per_epoch=5376, lr=5e-4)
    finetune: TrainSpec = TrainSpec(epochs=2, images_per_epoch=2560, lr=3e-4, predictor_lr=1e-3)
    retrain: TrainSpec = TrainSpec(preset="auto", epochs=8, images_per_epoch=5376, lr=5e-4, predictor_lr=2e-3)
    rungs: RungSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_older_version(cls, data: object) -> object:
        return renamed("fidelity", data)

    @property
    def trains_supernet(self) -> bool:
        """Whether one supernet is trained for all candidates."""
        return self.strategy == "supernet"

    @model_validator(mode="after")
    def _supernet_gathers(self) -> FidelitySpec:
        if self.supernet_training.method == "masked":
            raise ValueError(
                "supernet_training trains many schedules, but masked training learns one keep ratio per predictor; "
                "set its method to gathered"
            )
        return self
