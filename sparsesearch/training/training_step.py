"""One training step as an objective sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sparsesearch.data.task import Batch
from sparsesearch.sparsify.draws import Draws


def _unchanged(count: Tensor) -> Tensor:
    return count


@dataclass(frozen=True)
class TrainingStep:
    """A step of a training, of which a batch may be a part.

    Attributes:
        number: Number of the step since the start of the training, from 0.
        draws: Its random numbers, for the images of the batch.
        total: Returns, for a count of something in the batch that a loss divides by, the count in the whole step times
            the batch's fraction of it.
    """

    number: int
    draws: Draws
    total: Callable[[Tensor], Tensor] = _unchanged


class Objective(Protocol):
    """A loss."""

    def __call__(self, batch: Batch, step: TrainingStep, /) -> Tensor:
        """The mean loss of a batch, a scalar."""


class PoolingObjective(Objective, Protocol):
    """A loss with a mean over something other than images, such as the tokens that were kept."""

    def count(self, batch: Batch, step: TrainingStep, /) -> Tensor:
        """What `step.total` will be asked for, without a gradient."""
