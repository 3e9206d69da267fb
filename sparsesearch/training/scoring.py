"""Validation accuracy; schedules of one model share the computation before their first difference."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsesearch.backbones.segments import PrefixState, advance, complete, done_before, embed
from sparsesearch.backbones.sparsity import sparsity_of
from sparsesearch.backbones.transforms import family_of, set_schedule_
from sparsesearch.data.task import Batch
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.memory import is_out_of_memory

EVAL_BATCH = 240
_EVAL_BYTES = 2_000_000_000
_ROUND = 8


def eval_batch(geometry: BackboneGeometry) -> int:
    """Images in a batch of an evaluation: 240, or as many as need about 2 GB of activations in float32.

    It depends on the model and not on the device, so that results can be compared. Where memory is short nevertheless,
    `evaluate_model` halves the batch.

    Args:
        geometry: The backbone with its input size.
    """
    numbers = 0
    for stage in geometry.stages:
        tokens = stage.num_tokens + stage.num_prefix_tokens
        pairs = stage.num_heads * tokens**2 if stage.mixer == "attention" else 0
        numbers = max(numbers, tokens * (stage.mlp_dim + 4 * stage.attn_dim + 2 * stage.dim) + pairs)
    fitting = _EVAL_BYTES // (4 * numbers)
    return min(EVAL_BATCH, fitting // _ROUND * _ROUND if fitting >= _ROUND else max(1, fitting))


class Accumulator:
    """Accumulates predictions into accuracy and loss."""

    def __init__(self) -> None:
        self._correct: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._loss = 0.0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits `B x classes`, labels `B`."""
        self._correct.append((logits.argmax(-1) == labels).cpu())
        self._labels.append(labels.cpu())
        self._loss += float(F.cross_entropy(logits.float(), labels, reduction="sum"))

    @property
    def correct(self) -> Tensor:
        """Whether each image is classified correctly, in order."""
        return torch.cat(self._correct)

    @property
    def balanced_top1(self) -> float:
        """Mean over the classes that occur of the fraction of their images that are classified correctly."""
        labels, correct = torch.cat(self._labels).numpy(), self.correct.numpy()
        return float(np.mean([correct[labels == label].mean() for label in np.unique(labels)]))

    @property
    def class_fractions(self) -> list[float]:
        """Fraction of the images in each class that occurs."""
        labels = torch.cat(self._labels).numpy()
        return [float(np.mean(labels == label)) for label in np.unique(labels)]

    def metrics(self, prefix: str) -> dict[str, float]:
        """`PREFIX_top1` as a fraction, `PREFIX_loss` in nats, `PREFIX_images`."""
        count = len(self.correct)
        return {
            f"{prefix}_top1": int(self.correct.sum()) / count,
            f"{prefix}_loss": self._loss / count,
            f"{prefix}_images": float(count),
        }


@torch.no_grad()
def evaluate_model(model: nn.Module, batches: Iterable[Batch], *, arithmetic: Arithmetic) -> Accumulator:
    """Run a model over batches in eval mode."""
    model.eval()
    accumulator = Accumulator()
    for batch in map(arithmetic.to_device, batches):
        with arithmetic.autocast():
            logits = _logits(model, batch.images)
        accumulator.add(logits, batch.labels)
    return accumulator


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    """Logits of images, computed in halves if memory is short."""
    try:
        logits: Tensor = model(images)
        return logits
    except RuntimeError as error:
        if len(images) == 1 or not is_out_of_memory(error):
            raise
    half = len(images) // 2
    return torch.cat([_logits(model, images[:half]), _logits(model, images[half:])])


class PrefixCachedScorer:
    """Scores schedules of one frozen model of any family, resuming each from the longest cached prefix.

    The input of a block is the same for all schedules that agree on everything before it. It is cached before every
    block up to the one of a schedule's second step: the output of the dense blocks, with the attention records that
    scorers read, and the tokens that remain after the first step, which a search proposes again and again. The
    results are identical to a full forward pass.

    Args:
        model: A sparse model with everything attached that the schedules need. It is left in evaluation mode with
            recording turned off.
        batches: Validation batches.
        arithmetic: Device and precision.
        max_bytes: Size limit of the cache, not counting the embedded images; the least recently used entries are
            evicted.
    """

    def __init__(
        self, model: nn.Module, batches: Iterable[Batch], *, arithmetic: Arithmetic, max_bytes: int = 2_000_000_000
    ) -> None:
        self._model = model.eval()
        self._arithmetic = arithmetic
        self._max_bytes = max_bytes
        self._labels: list[Tensor] = []
        self._embedded: list[PrefixState] = []
        self._kept: OrderedDict[tuple[int, Hashable], list[PrefixState]] = OrderedDict()
        self._num_bytes = 0
        self._blocks = {block: index for index, block in enumerate(family_of(model).blocks(model))}
        sparsity_of(model).state.record = False
        with torch.no_grad():
            for batch in map(arithmetic.to_device, batches):
                self._labels.append(batch.labels)
                with arithmetic.autocast():
                    self._embedded.append(PrefixState(embed(model, batch.images)))

    @torch.no_grad()
    def score(self, schedule: Schedule) -> dict[str, float]:
        """Validation metrics of a schedule with the current weights."""
        set_schedule_(self._model, schedule)
        steps = sparsity_of(self._model).state.plan.steps
        stops = sorted({self._blocks[step.location[:2]] for step in steps})
        last = stops[1] if len(stops) > 1 else len(self._blocks) - 1
        keys = [(index, done_before(self._model, index)) for index in range(last + 1)]
        start = max((index for index, key in enumerate(keys) if key in self._kept), default=0)
        prefix_states = self._kept.get(keys[start], self._embedded)
        if start:
            self._kept.move_to_end(keys[start])
        for index in range(start, len(keys) - 1):
            prefix_states = [self._advanced(prefix_state, index, index + 1) for prefix_state in prefix_states]
            self._keep(keys[index + 1], prefix_states)
        accumulator = Accumulator()
        for prefix_state, labels in zip(prefix_states, self._labels, strict=True):
            with self._arithmetic.autocast():
                logits = complete(self._model, prefix_state, len(keys) - 1)
            accumulator.add(logits, labels)
        return accumulator.metrics("val")

    def _advanced(self, prefix_state: PrefixState, start: int, stop: int) -> PrefixState:
        with self._arithmetic.autocast():
            return advance(self._model, prefix_state, start, stop)

    def _keep(self, key: tuple[int, Hashable], prefix_states: list[PrefixState]) -> None:
        size = sum(prefix_state.num_bytes for prefix_state in prefix_states)
        while self._kept and self._num_bytes + size > self._max_bytes:
            _, gone = self._kept.popitem(last=False)
            self._num_bytes -= sum(prefix_state.num_bytes for prefix_state in gone)
        if self._num_bytes + size <= self._max_bytes:
            self._kept[key] = prefix_states
            self._num_bytes += size
