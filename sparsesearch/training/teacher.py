"""The dense model as a teacher: its class probabilities and its saliency.

Shapes: `B` batch, `N` patch tokens, `K` classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sparsesearch.backbones.saliency import attends_from_class_token, read_teacher
from sparsesearch.backbones.transforms import attach_
from sparsesearch.data.task import Batch, Task
from sparsesearch.training.arithmetic import Arithmetic

POOL_BATCH = 250
MAX_TOKEN_BYTES = 300_000_000


@dataclass(frozen=True)
class TeacherTargets:
    """Targets of a batch.

    Attributes:
        log_probs_BK: Log-probabilities of the classes.
        saliency: Saliency of each patch token in raster order, summing to 1 over tokens, by stage: `B x N`.
        tokens_BNC: Final patch tokens, if requested.
    """

    log_probs_BK: Tensor
    saliency: Mapping[int, Tensor]
    tokens_BNC: Tensor | None = None


class Teacher:
    """Targets from a frozen dense model, precomputed for a fixed pool and computed online for other images.

    Args:
        model: The dense model; it is set to eval mode and made sparse, with the empty schedule, once for all batches.
        task: Its fixed pool, if any, is run through the model on first use.
        arithmetic: Device and precision, and whether the teacher is compiled: only one with a class token is, as others
            need gradients.
        use_pool: Whether to precompute the targets of the pool (not worthwhile if few of its images are used).
    """

    def __init__(self, model: nn.Module, task: Task, *, arithmetic: Arithmetic, use_pool: bool) -> None:
        attach_(model, [])
        self._model = model.eval().requires_grad_(False)
        compiles = arithmetic.compiles and attends_from_class_token(model)
        self._read = torch.compile(read_teacher) if compiles else read_teacher
        self._task = task
        self._arithmetic = arithmetic
        self._use_pool = use_pool
        self._pooled: TeacherTargets | None = None

    def targets(self, batch: Batch, *, tokens: bool = False) -> TeacherTargets:
        """Targets of a batch, on the device.

        Args:
            batch: Images, on the device.
            tokens: Whether to include the final tokens. Those of a pool are stored if they fit into memory and
                computed online otherwise.
        """
        if batch.ids is None or not self._use_pool:
            return self._compute(batch, tokens=tokens)
        if self._pooled is None:
            self._pooled = self._run_pool(tokens=tokens)
        pooled = self._pooled
        if tokens and pooled.tokens_BNC is None:
            return self._compute(batch, tokens=True)
        return TeacherTargets(
            pooled.log_probs_BK[batch.ids],
            {stage: saliency[batch.ids] for stage, saliency in pooled.saliency.items()},
            pooled.tokens_BNC[batch.ids] if tokens and pooled.tokens_BNC is not None else None,
        )

    def _run_pool(self, *, tokens: bool) -> TeacherTargets:
        batches = self._task.pool(batch_size=POOL_BATCH)
        assert batches is not None, "a batch has ids, so its task has a pool"
        parts: list[TeacherTargets] = []
        kept: list[Tensor] | None = [] if tokens else None
        for batch in batches:
            part = self._compute(self._arithmetic.to_device(batch), tokens=kept is not None)
            if kept is not None and part.tokens_BNC is not None:
                kept.append(part.tokens_BNC)
                if sum(tensor.nbytes for tensor in kept) > MAX_TOKEN_BYTES:
                    kept = None
            parts.append(replace(part, tokens_BNC=None))
        return TeacherTargets(
            torch.cat([part.log_probs_BK for part in parts]),
            {stage: torch.cat([part.saliency[stage] for part in parts]) for stage in parts[0].saliency},
            torch.cat(kept) if kept else None,
        )

    def _compute(self, batch: Batch, *, tokens: bool = False) -> TeacherTargets:
        with self._arithmetic.autocast():
            reading = self._read(self._model, batch.images, tokens=tokens)
        return TeacherTargets(reading.logits_BK.float().log_softmax(-1), reading.saliency, reading.tokens_BNC)
