"""Masked training of one schedule, as in the papers: no token is dropped, attention and paths are masked."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparsesearch.backbones.calls import new_call
from sparsesearch.backbones.saliency import final_outputs
from sparsesearch.data.task import Batch
from sparsesearch.sparsify.call import Call
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.distillation import check_masked, masked_terms, num_compared
from sparsesearch.training.teacher import Teacher
from sparsesearch.training.training_step import TrainingStep


class MaskedObjective:
    """DynamicViT's loss: keep decisions are sampled, with a loss on the keep ratio and two distillation terms.

    Masked training learns how many tokens to keep, so it needs learned predictors that prune or choose paths;
    evaluation keeps the fixed number of tokens of the schedule.

    Args:
        model: A sparse model whose schedule is set.
        teacher: Provides logits and final tokens.
        arithmetic: Device and precision.
        ratio_weight: Weight of the loss on the keep ratio; None for 2, and 10 for ConvNeXt and Swin.

    Raises:
        ScheduleError: A step of the schedule neither prunes nor chooses paths.

    Source: DynamicViT (arXiv:2106.02034), section 3.4; Dynamic Spatial Sparsification (arXiv:2207.01580), section 3.4.
    """

    def __init__(
        self, model: nn.Module, teacher: Teacher, *, arithmetic: Arithmetic, ratio_weight: float | None = None
    ) -> None:
        check_masked(model)
        self._model = model
        self._teacher = teacher
        self._arithmetic = arithmetic
        self._ratio_weight = ratio_weight

    def __call__(self, batch: Batch, step: TrainingStep) -> Tensor:
        """The loss of a batch."""
        targets = self._teacher.targets(batch, tokens=True)
        logits, call = self._run(batch, step)
        with self._arithmetic.autocast():
            tokens = final_outputs(self._model, call.trace)
        return masked_terms(
            self._model,
            call.trace,
            logits,
            tokens,
            batch.labels,
            targets,
            ratio_weight=self._ratio_weight,
            total=step.total,
        )

    @torch.no_grad()
    def count(self, batch: Batch, step: TrainingStep) -> Tensor:
        """Number of tokens that the loss compares with the teacher's."""
        return num_compared(self._model, self._run(batch, step)[1].trace)

    def _run(self, batch: Batch, step: TrainingStep) -> tuple[Tensor, Call]:
        call = new_call(self._model, generator=step.draws, mode="masked", record=True, keep_final_tokens=True)
        with self._arithmetic.autocast():
            logits = self._model(batch.images, call=call)
        return logits, call
