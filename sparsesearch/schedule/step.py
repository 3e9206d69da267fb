"""One reduction at one location: as written, and resolved for a geometry."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from sparsesearch.schedule.geometry import StageGeometry
from sparsesearch.schedule.methods import (
    DynamicVitScorer,
    FastSlow,
    Merge,
    Prune,
    Reducer,
    Scorer,
    SpotScorer,
)
from sparsesearch.value import Value

Phase = Literal["before_block", "before_ffn"]
_DEFAULT_SCORER = DynamicVitScorer()
PHASE_ORDER = {"before_block": 0, "before_ffn": 1}


def num_kept(num_tokens: int, keep_ratio: float) -> int:
    """Tokens kept of `num_tokens` at `keep_ratio`; the only function of this package that rounds.

    The small addend corrects ratios that were computed as a count over `num_tokens`; a plain floor would lose a token.

    Args:
        num_tokens: Patch tokens on entry, at least 1.
        keep_ratio: Fraction in (0, 1].
    """
    return max(1, math.floor(keep_ratio * num_tokens + 1e-9 * num_tokens))


def default_scorer(reducer: Reducer, scorer: Scorer | None, phase: Phase) -> Scorer | None:
    """The scorer of a step: by default DynamicViT's predictor; None for a merge.

    Raises:
        ValueError: Reducer, scorer and phase are incompatible.
    """
    if isinstance(reducer, FastSlow) and phase != "before_block":
        raise ValueError("fast_slow selects positions before a block; use phase before_block")
    if isinstance(reducer, Merge):
        if scorer is not None:
            raise ValueError("merge pairs similar tokens and does not rank them; omit its scorer")
        return None
    return _DEFAULT_SCORER if scorer is None else scorer


class Step(Value):
    """One reduction at one location.

    Attributes:
        stage: Stage index, 0 for isotropic backbones.
        block: 0-based block inside the stage.
        phase: `before_block` (DynamicViT, SPOT) or `before_ffn`, between attention and feed-forward network (EViT,
            ToMe, DiffRate).
        keep_ratio: Fraction of the stage's *initial* patch tokens left from here on, in (0, 1]; for `fast_slow` the
            fraction of its positions on the slow path.
        reducer: What happens to tokens that are not kept.
        scorer: Ranks the tokens; by default the predictor of DynamicViT. None for `merge`, which ranks nothing.
    """

    stage: int = Field(ge=0, default=0)
    block: int = Field(ge=0)
    phase: Phase = "before_block"
    keep_ratio: float = Field(gt=0.0, le=1.0)
    reducer: Reducer = Prune()
    scorer: Scorer | None = None

    @model_validator(mode="after")
    def _scorer_fits(self) -> Step:
        object.__setattr__(self, "scorer", default_scorer(self.reducer, self.scorer, self.phase))
        return self

    @property
    def location(self) -> tuple[int, int, int]:
        """Order of execution: stage, block, phase."""
        return (self.stage, self.block, PHASE_ORDER[self.phase])


class ResolvedStep(Value):
    """A `Step` resolved for a geometry.

    Attributes:
        stage: Stage index.
        block: 0-based block inside the stage.
        phase: As in `Step`.
        num_tokens: Patch tokens left, including a fused one; for `fast_slow` positions on the slow path.
        reducer: What happens to the others.
        scorer: Ranks the tokens; None for a merge.
        num_before: Patch tokens that arrive.
        num_layers: Attention layers whose statistics the scorer reads (SPOT), else 0.
    """

    stage: int
    block: int
    phase: Phase
    num_tokens: int
    reducer: Reducer
    scorer: Scorer | None
    num_before: int
    num_layers: int = 0

    @property
    def last_attention(self) -> int:
        """The block whose attention is the last one before this step; -1 if there is none."""
        return last_attention(self.block, self.phase)

    def num_statistics(self, stage: StageGeometry) -> int:
        """Attention statistics per token that SPOT reads, over its layers and heads; 0 for other scorers."""
        return num_statistics(self.scorer, stage, num_layers=self.num_layers)


def last_attention(block: int, phase: Phase) -> int:
    """The block whose attention is the last one before a step there; -1 if there is none."""
    return block if phase == "before_ffn" else block - 1


def num_layers(scorer: Scorer | None, *, last: int, last_before: int | None) -> int:
    """Number of layers whose statistics SPOT reads; 0 for other scorers. The last attention is always included.

    Args:
        scorer: The scorer.
        last: The last attention before the step.
        last_before: The last attention before the previous step of the stage; None for the first step.
    """
    if not isinstance(scorer, SpotScorer):
        return 0
    so_far = last + 1
    if scorer.layers == "all":
        return so_far
    if scorer.layers == "since_last":
        return max(1, so_far - (0 if last_before is None else last_before + 1))
    return min(scorer.layers, so_far)


def num_statistics(scorer: Scorer | None, stage: StageGeometry, *, num_layers: int) -> int:
    """Attention statistics per token that SPOT reads, over its layers and heads; 0 for other scorers."""
    if not isinstance(scorer, SpotScorer):
        return 0
    heads = stage.num_heads if scorer.heads == "concat" else 1
    return num_layers * heads * len(scorer.available(has_class_token=stage.has_class_token))
