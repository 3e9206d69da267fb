"""Validation accuracy; schedules of one model share the computation before their first difference."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsesearch.backbones.segments import PrefixState, done_before, embed
from sparsesearch.backbones.sparsity import sparsity_of
from sparsesearch.backbones.transforms import family_of, set_schedule_
from sparsesearch.data.task import Batch
from sparsesearch.errors import one_line
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.study.hits import Hits
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.memory import is_out_of_memory, return_freed_memory
from sparsesearch.training.prefix_cache import PrefixCache, Route

logger = logging.getLogger(__name__)

EVAL_BATCH = 240
CACHE_BYTES = 2_000_000_000
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
    """Accumulates predictions into accuracy and loss, on their device until these are read."""

    def __init__(self) -> None:
        self._correct: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._losses: list[Tensor] = []

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits `B x classes`, labels `B`."""
        self._correct.append(logits.argmax(-1) == labels)
        self._labels.append(labels)
        self._losses.append(F.cross_entropy(logits.float(), labels, reduction="sum"))

    @property
    def correct(self) -> Tensor:
        """Whether each image is classified correctly, in order."""
        return torch.cat(self._correct).cpu()

    @property
    def balanced_top1(self) -> float:
        """Mean over the classes that occur of the fraction of their images that are classified correctly."""
        labels, correct = torch.cat(self._labels).numpy(force=True), self.correct.numpy()
        return float(np.mean([correct[labels == label].mean() for label in np.unique(labels)]))

    @property
    def class_fractions(self) -> list[float]:
        """Fraction of the images in each class that occurs."""
        labels = torch.cat(self._labels).numpy(force=True)
        return [float(np.mean(labels == label)) for label in np.unique(labels)]

    def hits(self, images: str) -> Hits:
        """Which images are classified correctly.

        Args:
            images: Name of the set of images.
        """
        return Hits.of(self.correct.tolist(), images=images)

    def metrics(self, prefix: str) -> dict[str, float]:
        """`PREFIX_top1` as a fraction, `PREFIX_loss` in nats, `PREFIX_images`."""
        count = len(self.correct)
        return {
            f"{prefix}_top1": int(self.correct.sum()) / count,
            f"{prefix}_loss": sum(torch.stack(self._losses).tolist()) / count,
            f"{prefix}_images": float(count),
        }


@torch.no_grad()
def evaluate_model(model: nn.Module, batches: Iterable[Batch], *, arithmetic: Arithmetic) -> Accumulator:
    """Run a model over batches in eval mode."""
    model.eval()
    accumulator = Accumulator()
    for batch in map(arithmetic.to_device, batches):
        with arithmetic.evaluating():
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

    Attributes:
        keeps_images: Whether the embedded images stay in memory.

    Args:
        model: A sparse model with everything attached that the schedules need. It is left in evaluation mode with
            recording turned off.
        read: Reads the validation batches from the first on.
        arithmetic: Device and precision.
        keeps_images: Whether to keep the embedded images, and the cache of all of them, between calls. Otherwise every
            call reads them again, and holds those of one batch at a time.
        max_bytes: Size limit of the cache, not counting the embedded images; the least recently used entries are
            evicted.
    """

    def __init__(
        self,
        model: nn.Module,
        read: Callable[[], Iterable[Batch]],
        *,
        arithmetic: Arithmetic,
        keeps_images: bool = True,
        max_bytes: int = CACHE_BYTES,
    ) -> None:
        self.keeps_images = keeps_images
        self._model = model.eval()
        self._read = read
        self._arithmetic = arithmetic
        self._max_bytes = max_bytes
        self._blocks = {block: index for index, block in enumerate(family_of(model).blocks(model))}
        sparsity_of(model).state.record = False
        self._kept: list[tuple[PrefixCache, Tensor]] = []
        if keeps_images:
            embedded = list(self._embedded())
            size = max_bytes // max(1, len(embedded))
            self._kept = [(PrefixCache(model, state, max_bytes=size), labels) for state, labels in embedded]

    def score(self, schedule: Schedule) -> dict[str, float]:
        """Validation metrics of a schedule with the current weights."""
        return self.score_all([schedule])[schedule].metrics("val")

    @torch.no_grad()
    def score_all(
        self, schedules: Sequence[Schedule], *, after_batch: Callable[[], None] = lambda: None
    ) -> dict[Schedule, Accumulator]:
        """Predictions of schedules, in one pass over the images.

        Args:
            schedules: The schedules.
            after_batch: Called after each batch of images; what it raises ends the pass.

        Returns:
            The predictions by schedule. Where several are scored, one that raises is left out: it raises again alone.
        """
        routes = {schedule: self._route(schedule) for schedule in schedules}
        accumulators = {schedule: Accumulator() for schedule in schedules}
        for cache, labels in self._kept if self.keeps_images else self._passing():
            for schedule, route in list(routes.items()):
                try:
                    if len(schedules) > 1:  # otherwise it is set already
                        set_schedule_(self._model, schedule)
                    with self._arithmetic.evaluating():
                        logits = cache.logits(route)
                except Exception as error:
                    if len(schedules) == 1:
                        raise
                    logger.info("a schedule is left out of a joint pass: %s", one_line(error))
                    del routes[schedule]
                else:
                    accumulators[schedule].add(logits, labels)
            del cache  # before the next one is made
            after_batch()
        return {schedule: accumulators[schedule] for schedule in routes}

    def _passing(self) -> Iterator[tuple[PrefixCache, Tensor]]:
        """A new cache for each batch, which the caller drops before the next."""
        for state, labels in self._embedded():
            yield PrefixCache(self._model, state, max_bytes=self._max_bytes), labels
            return_freed_memory()

    @torch.no_grad()
    def _embedded(self) -> Iterator[tuple[PrefixState, Tensor]]:
        """The images before the first block, with their labels."""
        for batch in map(self._arithmetic.to_device, self._read()):
            with self._arithmetic.evaluating():
                state = PrefixState(embed(self._model, batch.images))
            yield state, batch.labels

    def _route(self, schedule: Schedule) -> Route:
        """Where a pass under a schedule is stored: before each block up to that of its second step."""
        set_schedule_(self._model, schedule)
        steps = sparsity_of(self._model).state.plan.steps
        stops = sorted({self._blocks[step.location[:2]] for step in steps})
        last = stops[1] if len(stops) > 1 else len(self._blocks) - 1
        return [(index, done_before(self._model, index)) for index in range(last + 1)]
