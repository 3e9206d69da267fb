"""Masked training of one schedule, as in the papers: no token is dropped, attention and paths are masked."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsesearch.backbones.calls import new_call
from sparsesearch.backbones.saliency import final_outputs
from sparsesearch.backbones.sparsity import sparsity_of
from sparsesearch.data.task import Batch
from sparsesearch.errors import ScheduleError
from sparsesearch.sparsify.losses import LossWeights, Outputs, dynamicvit_loss
from sparsesearch.sparsify.model_plan import PlannedStep
from sparsesearch.training.loop import Arithmetic
from sparsesearch.training.teacher import Teacher

_HIERARCHICAL_RATIO_WEIGHT = 10.0


class MaskedObjective:
    """DynamicViT's loss: keep decisions are sampled, with a loss on the keep ratio and two distillation terms.

    Masked training learns how many tokens to keep, so it needs learned predictors that prune or choose paths;
    evaluation keeps the fixed number of tokens of the schedule.

    Args:
        model: A sparse model whose schedule is set.
        teacher: Provides logits and final tokens.
        arithmetic: Device and precision.
        weights: Weights of the terms; None for those of the papers.

    Raises:
        ScheduleError: A step of the schedule neither prunes nor chooses paths.

    Source: DynamicViT (arXiv:2106.02034), section 3.4; Dynamic Spatial Sparsification (arXiv:2207.01580), section 3.4.
    """

    def __init__(
        self, model: nn.Module, teacher: Teacher, *, arithmetic: Arithmetic, weights: LossWeights | None = None
    ) -> None:
        self._model = model
        self._teacher = teacher
        self._arithmetic = arithmetic
        kinds = {step.reducer.kind for step in self._steps()} - {"prune", "fast_slow"}
        if kinds:
            raise ScheduleError(f"masked training does not support {' or '.join(sorted(kinds))}; use method: gathered")
        self._is_grid = any(step.reducer.kind == "fast_slow" for step in self._steps())
        self._weights = weights or self._published_weights()

    def __call__(self, batch: Batch, step: int, generator: torch.Generator) -> Tensor:
        """The loss of a batch."""
        targets = self._teacher.targets(batch, tokens=True)
        call = new_call(self._model, generator=generator, mode="masked", record=True, keep_final_tokens=True)
        with self._arithmetic.autocast():
            logits = self._model(batch.images, call=call)
            tokens = final_outputs(self._model, call.trace)
        assert tokens is not None
        assert targets.tokens_BNC is not None
        decisions = [trace.decision_BN for trace in call.trace.steps if trace.decision_BN is not None]
        terms = dynamicvit_loss(
            Outputs(logits.float(), tokens.float()),
            Outputs(targets.log_probs_BK, targets.tokens_BNC.float()),
            cls=F.cross_entropy(logits.float(), batch.labels),
            decisions=decisions,
            keep_ratios=self._keep_ratios(),
            keep_BN=decisions[-1].detach() if decisions and not self._is_grid else None,
            weights=self._weights,
        )
        return terms.total

    def _steps(self) -> list[PlannedStep]:
        return list(sparsity_of(self._model).state.plan.steps)

    def _keep_ratios(self) -> list[float]:
        """The keep ratio of each active step, as written in the schedule."""
        sparsity = sparsity_of(self._model)
        resolved = sparsity.schedule.resolve(sparsity.geometry)
        active = {(s.stage, s.block, s.phase) for s in resolved if s.num_tokens < s.num_before}
        return [s.keep_ratio for s in sparsity.schedule.steps if (s.stage, s.block, s.phase) in active]

    def _published_weights(self) -> LossWeights:
        if self._is_grid:
            return LossWeights(ratio=_HIERARCHICAL_RATIO_WEIGHT)
        return LossWeights(token_loss="kl" if hasattr(self._model, "token_logits") else "mse")
