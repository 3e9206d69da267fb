"""How candidates are evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from sparsesearch.study.spec.training import TrainSpec
from sparsesearch.value import Value

Strategy = Literal["supernet", "finetune", "training-free"]


class RungSpec(Value):
    """Successive halving while candidates are fine-tuned: the worse ones are stopped early.

    With one budget the most accurate go on (ASHA); with a range of budgets those on or near the front of accuracy and
    cost, over all of its length (MO-ASHA).

    Attributes:
        first_epoch: Epochs before a candidate may be stopped.
        factor: At the first rung and at each later one (`factor` times as many epochs), 1 of `factor` goes on.
    """

    first_epoch: int = Field(default=1, ge=1)
    factor: int = Field(default=3, ge=2)


class FidelitySpec(Value):
    """How candidates are evaluated, cheap before dear.

    Documents of older versions say `elastic: true` for `strategy: supernet` and `elastic: false` for
    `strategy: finetune`; that is still read.

    Attributes:
        strategy: What candidates are ranked by: `supernet` trains once for all of them and evaluates each on the shared
            weights; `finetune` trains each from the dense model; `training-free` evaluates each on the dense weights,
            with scores that need no training.
        evaluations: Candidates ranked (with `finetune`: candidates fine-tuned).
        finalists: Best candidates that are then fine-tuned; the front is made of these.
        dense: Training of the dense model where no pretrained weights fit.
        elastic_training: The elastic training.
        finetune: Fine-tuning of one candidate.
        retrain: Full training of an exported schedule.
        rungs: When fine-tunings of searched candidates are stopped early, None for never.
    """

    strategy: Strategy = "supernet"
    evaluations: int = Field(default=60, ge=1)
    finalists: int = Field(default=5, ge=1)
    dense: TrainSpec = TrainSpec(epochs=12, lr=2e-3, warmup=0.2)
    elastic_training: TrainSpec = TrainSpec(epochs=4, images_per_epoch=5376, lr=5e-4)
    finetune: TrainSpec = TrainSpec(epochs=2, images_per_epoch=2560, lr=3e-4, predictor_lr=1e-3)
    retrain: TrainSpec = TrainSpec(epochs=8, images_per_epoch=5376, lr=5e-4, predictor_lr=2e-3)
    rungs: RungSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_older_version(cls, data: object) -> object:
        return with_strategy(data) if isinstance(data, Mapping) else data

    @property
    def elastic(self) -> bool:
        """Whether one elastic training serves all candidates."""
        return self.strategy == "supernet"

    @model_validator(mode="after")
    def _elastic_gathers(self) -> FidelitySpec:
        if self.elastic_training.method == "masked":
            raise ValueError(
                "elastic_training serves many schedules; masked training learns one share for each predictor, "
                "so set its method to gathered"
            )
        return self


def with_strategy(fidelity: Mapping[str, object]) -> dict[str, object]:
    """A fidelity document with `elastic`, as older versions wrote it, in the words of `strategy`.

    Args:
        fidelity: Part of a `FidelitySpec` as plain data.

    Raises:
        ValueError: It says both, and they contradict each other.
    """
    document = dict(fidelity)
    if "elastic" not in document or not isinstance(document["elastic"], bool | None):
        return document
    elastic = document.pop("elastic")
    if elastic is None:
        return document
    meant = "supernet" if elastic else "finetune"
    if document.setdefault("strategy", meant) != meant:
        raise ValueError(f"elastic: {str(elastic).lower()} is strategy {meant}, not {document['strategy']}; say one")
    return document
