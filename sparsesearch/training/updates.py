"""One optimizer step after another, each of which may be computed in parts by several processes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from sparsesearch.backbones.drop_path import follow_
from sparsesearch.data.task import Batch
from sparsesearch.errors import DeviceMemoryError
from sparsesearch.sparsify.draws import Draws
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.augmentation import Augmenter
from sparsesearch.training.memory import is_out_of_memory
from sparsesearch.training.processes import Processes
from sparsesearch.training.shared_stem import SharedStem
from sparsesearch.training.training_step import Objective, TrainingStep

logger = logging.getLogger(__name__)


class Updates:
    """Optimizer steps.

    Args:
        model: Trained in place.
        optimizer: Its optimizer.
        arithmetic: Device and precision.
        processes: The processes that train the model together.
        micro_batch: Images computed at once by one process.
        clip_grad: Maximum norm of the gradient; None for no limit.
        augmenter: Changes the images and labels of each step; None for none.

    Attributes:
        scaler: Scales the loss in float16.
        micro_batch: Halved whenever the device runs out of memory.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        arithmetic: Arithmetic,
        processes: Processes,
        micro_batch: int,
        clip_grad: float | None,
        augmenter: Augmenter | None = None,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._arithmetic = arithmetic
        self._processes = processes
        self._clip_grad = clip_grad
        self._augmenter = augmenter
        self.scaler = arithmetic.scaler()
        self.micro_batch = micro_batch

    def update(self, batch: Batch, objective: Objective, *, number: int, draws: Draws) -> Tensor:
        """Make one step.

        Args:
            batch: This process's images of the step.
            objective: The loss.
            number: Number of the step, from 0.
            draws: Random numbers of the step.

        Returns:
            This process's part of the loss of the step; those of all processes add up to it.

        Raises:
            DeviceMemoryError: A single image does not fit into memory.
        """
        local = self._arithmetic.to_device(batch)
        if self._augmenter is not None:
            local = self._augmenter(local, draws)
        while True:
            self._optimizer.zero_grad(set_to_none=True)
            with self._arithmetic.training_products():
                loss = self._gradients(local, objective, number=number, draws=draws)
            if loss is not None:
                break
            self._halve(len(local.labels))
        self._processes.sum_gradients_(self._model.parameters())
        self.scaler.unscale_(self._optimizer)
        if self._clip_grad is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), self._clip_grad)
        self.scaler.step(self._optimizer)
        self.scaler.update()
        return loss

    def _gradients(self, local: Batch, objective: Objective, *, number: int, draws: Draws) -> Tensor | None:
        """Compute the gradients of this process; returns its loss, or None if a process is out of memory."""
        loss: Tensor | None = None
        try:
            loss = self._accumulated(local, objective, number=number, draws=draws)
        except RuntimeError as error:
            if not is_out_of_memory(error) or (self._processes.world > 1 and self._arithmetic.device.type == "cpu"):
                raise
        # On a CPU, processes cannot agree on this: one that is out of memory is killed.
        if self._arithmetic.device.type == "cuda" and any(self._processes.any_of([loss is None])):
            return None
        return loss

    def _accumulated(self, local: Batch, objective: Objective, *, number: int, draws: Draws) -> Tensor:
        parts = [local] if self.micro_batch >= len(local.labels) else list(local.micro_batches(self.micro_batch))
        own = [TrainingStep(number, draws.at(part.first), partial(self._total, part)) for part in parts]
        if len(parts) == 1:
            return self._backward(objective, local, own[0])
        with SharedStem(self._model, local, arithmetic=self._arithmetic) as stem:
            if hasattr(objective, "count"):
                counts = []
                for part, step in zip(parts, own, strict=True):
                    follow_(self._model, step.draws)
                    counts.append(objective.count(stem.part(part), step))
                whole = self._processes.sum_(torch.stack(counts).sum())
                own = [TrainingStep(number, draws.at(part.first), _constant(whole * part.fraction)) for part in parts]
            losses = [self._backward(objective, stem.part(part), step) for part, step in zip(parts, own, strict=True)]
        return torch.stack(losses).sum()

    def _backward(self, objective: Objective, batch: Batch, step: TrainingStep) -> Tensor:
        follow_(self._model, step.draws)
        loss = objective(batch, step)
        if batch.fraction != 1.0:
            loss = loss * batch.fraction
        if loss.requires_grad:
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _total(self, part: Batch, count: Tensor) -> Tensor:
        """The count in all processes, which all compute the whole of their shares at once."""
        return self._processes.sum_(count.detach().clone()) * part.fraction if self._processes.world > 1 else count

    def _halve(self, num_images: int) -> None:
        size = min(self.micro_batch, num_images)
        if size <= 1:
            raise DeviceMemoryError(
                f"the training of one image does not fit into the memory of {self._arithmetic.device}; choose a "
                "smaller backbone or image size, or set grad_checkpointing"
            )
        self.micro_batch = -(-size // 2)
        if self._arithmetic.device.type == "cuda":
            torch.cuda.empty_cache()
        logger.warning(
            "out of memory with %d images at once on %s; going on with %d at once, and the same batch",
            size,
            self._arithmetic.device,
            self.micro_batch,
        )


def _constant(whole: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda count: whole
