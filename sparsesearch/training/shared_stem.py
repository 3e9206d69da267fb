"""Batch norms in the stem of a model whose training step is computed in parts."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from sparsesearch.data.task import Batch
from sparsesearch.training.arithmetic import Arithmetic


class SharedStem:
    """Computes the stem once for all images of a step, and gives each part of the step its rows.

    A batch norm normalises by the statistics of all images, so that a step in parts would be another one. In every
    supported family batch norms are in the stem alone, which needs little memory. Its gradient is collected from all
    parts, and its backward pass runs once at the end. Where a part does not give the images themselves to the stem (a
    window of them), or the model has no batch norm, nothing is shared.

    Args:
        model: The model.
        batch: All images of the step in this process, on the device.
        arithmetic: Device and precision.
    """

    def __init__(self, model: nn.Module, batch: Batch, *, arithmetic: Arithmetic) -> None:
        stems = [child for child in model.children() if _has_batch_norm(child)]
        self._stem: Any = stems[0] if len(stems) == 1 else None
        self._batch = batch
        self._arithmetic = arithmetic
        self._output: Tensor | None = None
        self._leaf: Tensor | None = None
        self._num_calls = 0
        self._part = batch

    def part(self, part: Batch) -> Batch:
        """Say which part of the batch is computed next; returns it."""
        self._part = part
        return part

    def __enter__(self) -> SharedStem:
        if self._stem is not None:
            self._plain = self._stem.forward
            self._stem.forward = self._rows
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stem is None:
            return
        del self._stem.forward
        if kind is None and self._output is not None and self._leaf is not None:
            if self._leaf.grad is not None:
                self._output.backward(self._leaf.grad)  # type: ignore[no-untyped-call]
            with torch.no_grad(), self._arithmetic.autocast():
                for _ in range(self._num_calls - 1):  # running statistics follow every pass of an undivided step
                    self._plain(self._batch.images)

    def _rows(self, images: Tensor) -> Tensor:
        if images is not self._part.images or not self._stem.training:
            plain: Tensor = self._plain(images)
            return plain
        if self._leaf is None:
            with torch.enable_grad():
                output: Tensor = self._plain(self._batch.images)
            self._output, self._leaf = output, output.detach().requires_grad_()
        first = self._part.first - self._batch.first
        if first == 0 and torch.is_grad_enabled():  # a pass that only counts is not one of an undivided step
            self._num_calls += 1
        return self._leaf[first : first + len(images)]


def _has_batch_norm(module: nn.Module) -> bool:
    return any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
