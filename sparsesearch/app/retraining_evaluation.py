"""Accuracies of a retraining: after each epoch on some images, at the end in full."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Literal

import torch
from torch import nn

from sparsesearch.data.task import Task
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.study.metric import VAL_TOP1
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.scoring import eval_batch, evaluate_model

Kind = Literal["trained", "average"]
_LEAST_IMAGES, _FRACTION_OF_EPOCH = 960, 20


class RetrainingEvaluation:
    """Evaluates the models of a retraining: the trained weights, and their moving average if there is one.

    Args:
        task: Its images, whose validation part is evaluated.
        is_validation_new: Whether that part is not trained on.
        geometry: The backbone.
        arithmetic: Device and precision of the training; the last numbers are computed in float32.
    """

    def __init__(
        self, task: Task, *, is_validation_new: bool, geometry: BackboneGeometry, arithmetic: Arithmetic
    ) -> None:
        self._task = task
        self._is_new = is_validation_new
        self._size = eval_batch(geometry)
        self._arithmetic = arithmetic
        self.exact = Arithmetic(arithmetic.device, torch.float32)

    def after_epoch(self, models: Mapping[Kind, nn.Module], *, num_images: int) -> dict[str, float]:
        """Accuracies on as many images as take little time next to an epoch; see `EpochRow`.

        Args:
            models: The models.
            num_images: Images of the epoch.
        """
        prefix = "val" if self._is_new else "train"
        num_batches = -(-max(_LEAST_IMAGES, num_images // _FRACTION_OF_EPOCH) // self._size)
        found = {}
        for kind, model in models.items():
            batches = islice(self._task.val("confirm", batch_size=self._size), num_batches)
            metrics = evaluate_model(model, batches, arithmetic=self._arithmetic).metrics(prefix)
            found[_key(kind, f"{prefix}_top1")] = metrics[f"{prefix}_top1"]
        return found

    def better(self, models: Mapping[Kind, nn.Module]) -> Kind:
        """Which weights to keep: the more accurate ones on validation images that were not trained on.

        Without such images these are the trained weights, as in the papers' published checkpoints.
        """
        if len(models) == 1 or not self._is_new:
            return "trained"
        accuracies: dict[Kind, float] = {}
        for kind, model in models.items():
            batches = self._task.val("confirm", batch_size=self._size)
            accuracies[kind] = VAL_TOP1.of(evaluate_model(model, batches, arithmetic=self.exact).metrics("val"))
        return max(accuracies, key=lambda kind: (accuracies[kind], kind == "trained"))


def _key(kind: Kind, name: str) -> str:
    return name if kind == "trained" else f"{kind}_{name}"
