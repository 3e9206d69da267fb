"""Validation accuracy; many schedules of one model share everything before the first predictor.

Shapes: `B` batch, `N` tokens, `C` channels.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsesearch.backbones.segments import embed, finish, run_blocks
from sparsesearch.backbones.verbs import set_schedule_
from sparsesearch.evaluate.task import Batch
from sparsesearch.evaluate.training import Arithmetic
from sparsesearch.geometry import BackboneGeometry
from sparsesearch.schedule import Schedule

EVAL_BATCH = 240


class Tally:
    """Adds up predictions into accuracy and loss."""

    def __init__(self) -> None:
        self._correct: list[Tensor] = []
        self._loss = 0.0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: logits `B x classes`, labels `B`."""
        self._correct.append((logits.argmax(-1) == labels).cpu())
        self._loss += float(F.cross_entropy(logits.float(), labels, reduction="sum"))

    @property
    def correct(self) -> Tensor:
        """Bool, one for each image in order."""
        return torch.cat(self._correct)

    def metrics(self, prefix: str) -> dict[str, float]:
        """`PREFIX_top1` as a fraction, `PREFIX_loss` in nats, `PREFIX_images`."""
        count = len(self.correct)
        return {
            f"{prefix}_top1": int(self.correct.sum()) / count,
            f"{prefix}_loss": self._loss / count,
            f"{prefix}_images": float(count),
        }


@torch.no_grad()
def evaluate_model(model: nn.Module, batches: Iterable[Batch], *, arithmetic: Arithmetic) -> Tally:
    """Run a model over batches in eval mode."""
    model.eval()
    tally = Tally()
    for placed in map(arithmetic.place, batches):
        with arithmetic.autocast():
            logits = model(placed.images)
        tally.add(logits, placed.labels)
    return tally


class PrefixCachedScorer:
    """Scores schedules of one frozen model, starting each behind the dense blocks that all share.

    What goes into block b without any predictor before it is the same for every schedule whose first predictor sits at
    b or later; it is kept for every possible b as far as memory allows. The results are identical to running whole.

    Args:
        model: A sparse ViT with predictors attached.
        batches: Validation batches.
        geometry: The backbone.
        blocks: Blocks before which a schedule may start.
        arithmetic: Device and precision.
        max_bytes: Most memory for kept activations; blocks beyond it start from the nearest kept one before.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Batch],
        *,
        geometry: BackboneGeometry,
        blocks: Iterable[int],
        arithmetic: Arithmetic,
        max_bytes: int = 2_000_000_000,
    ) -> None:
        self._model = model.eval()
        self._geometry = geometry
        self._arithmetic = arithmetic
        self._labels: list[Tensor] = []
        self._entries: dict[int, list[Tensor]] = {}
        self._fill(list(batches), sorted({0, *blocks}), max_bytes=max_bytes)

    @torch.no_grad()
    def _fill(self, batches: list[Batch], blocks: list[int], *, max_bytes: int) -> None:
        set_schedule_(self._model, Schedule())
        stage = self._geometry.stages[0]
        num_images = sum(len(batch.labels) for batch in batches)
        one_block = num_images * (stage.num_tokens + stage.num_prefix_tokens) * stage.dim * 4
        blocks = blocks[: max(1, max_bytes // one_block)]
        self._entries = {block: [] for block in blocks}
        for batch in map(self._arithmetic.place, batches):
            self._labels.append(batch.labels)
            with self._arithmetic.autocast():
                x_BNC = embed(self._model, batch.images)
                for start, stop in zip(blocks, [*blocks[1:], None], strict=True):
                    self._entries[start].append(x_BNC)
                    if stop is not None:
                        x_BNC = run_blocks(self._model, x_BNC, start=start, stop=stop)

    @torch.no_grad()
    def score(self, schedule: Schedule) -> dict[str, float]:
        """Validation metrics of a schedule with the model's weights as they are."""
        set_schedule_(self._model, schedule)
        depth = self._geometry.stages[0].depth
        first = min((step.block for step in schedule.steps), default=depth)
        start = max(block for block in self._entries if block <= first)
        tally = Tally()
        for x_BNC, labels in zip(self._entries[start], self._labels, strict=True):
            with self._arithmetic.autocast():
                logits = finish(self._model, run_blocks(self._model, x_BNC, start=start, stop=depth))
            tally.add(logits, labels)
        return tally.metrics("val")
