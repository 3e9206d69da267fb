"""Reducers and scorers of the steps of a schedule, as frozen values."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from sparsesearch.value import Value


class Prune(Value):
    """Drop the tokens that are not kept (DynamicViT, arXiv:2106.02034, section 3.3)."""

    kind: Literal["prune"] = "prune"


class Fuse(Value):
    """Replace the tokens that are not kept by one, their average weighted by score (EViT, arXiv:2202.07800, 3.3).

    The fused token counts as kept: of `k` tokens left, `k - 1` are the best and one is the average of all others.

    Attributes:
        normalize: Divide by the sum of weights. EViT does not: its fused token is the weighted sum.
    """

    kind: Literal["fuse"] = "fuse"
    normalize: bool = True


class Merge(Value):
    """Merge the most similar tokens pairwise, by bipartite soft matching (ToMe, arXiv:2210.09461, section 3).

    At most half of the tokens can be merged at one location. Nothing is ranked, so the step has no scorer.

    Attributes:
        metric: Features that similarity is computed from: the keys of the last attention, averaged over heads, or the
            tokens.
        proportional_attention: Weight each token in later attention by the number of patches it represents.
    """

    kind: Literal["merge"] = "merge"
    metric: Literal["keys", "tokens"] = "keys"
    proportional_attention: bool = True


FastPath = Literal["linear", "identity", "bottleneck"]


class FastSlow(Value):
    """Keep every token, but replace the feed-forward network by a cheap path for tokens that are not selected.

    It applies from its block to the next such step or the end of the stage (arXiv:2207.01580, section 3.3).

    Attributes:
        fast_path: `linear` is the paper's layer norm and one linear layer; `bottleneck` has two linear layers with a
            quarter of the channels in between; `identity` leaves the token unchanged.
    """

    kind: Literal["fast_slow"] = "fast_slow"
    fast_path: FastPath = "linear"


def fast_path_macs(fast_path: FastPath, *, dim: int) -> int:
    """Multiply-adds per position of a fast path (for the linear one: arXiv:2207.01580, section 3.3)."""
    if fast_path == "identity":
        return 0
    return dim * dim if fast_path == "linear" else 2 * dim * (dim // 4)


class DynamicVitScorer(Value):
    """The learned predictor head of DynamicViT (arXiv:2106.02034, section 3.2)."""

    kind: Literal["dynamicvit"] = "dynamicvit"


AttentionStatistic = Literal["cls_out", "cls_in", "row_mean", "row_var", "col_mean", "col_var"]
ATTENTION_STATISTICS: tuple[AttentionStatistic, ...] = get_args(AttentionStatistic)
CLASS_STATISTICS: tuple[AttentionStatistic, ...] = ("cls_out", "cls_in")


class SpotScorer(Value):
    """The learned predictor of SPOT: token embeddings and statistics of attention (arXiv:2511.10488).

    Choices that the paper leaves open are options here.

    Attributes:
        layers: Layers whose statistics are used: those since the last step, all so far, or the given number of last
            ones.
        heads: Concatenate the statistics of all heads, or average them.
        variance: Divide squared deviations by the number of tokens, or by one less.
        statistics: Which of the six are used; a backbone without class token has no `cls_out` and `cls_in`.
        detach: Stop the gradient through the statistics.
    """

    kind: Literal["spot"] = "spot"
    layers: Literal["since_last", "all"] | Annotated[int, Field(ge=1)] = "since_last"
    heads: Literal["concat", "mean"] = "concat"
    variance: Literal["population", "sample"] = "population"
    statistics: tuple[AttentionStatistic, ...] = Field(default=ATTENTION_STATISTICS, min_length=1)
    detach: bool = True

    @field_validator("statistics")
    @classmethod
    def _in_order(cls, names: tuple[AttentionStatistic, ...]) -> tuple[AttentionStatistic, ...]:
        """Canonical form: each statistic once, in the order of the paper."""
        return tuple(name for name in ATTENTION_STATISTICS if name in names)

    def available(self, *, has_class_token: bool) -> tuple[AttentionStatistic, ...]:
        """The selected statistics that a backbone supports."""
        return tuple(name for name in self.statistics if has_class_token or name not in CLASS_STATISTICS)


class ClassAttentionScorer(Value):
    """Attention of the class token to each token, averaged over heads (EViT, arXiv:2202.07800, section 3.2).

    It is read from the last attention before the step: of the same block for `before_ffn`, of the previous block for
    `before_block`.
    """

    kind: Literal["class_attention"] = "class_attention"


class KeyNormScorer(Value):
    """Parameter-free control: the L2 norm of each token's key in the last attention, averaged over heads."""

    kind: Literal["key_norm"] = "key_norm"


class NormScorer(Value):
    """Parameter-free control: the L2 norm of each token; tokens with the largest norms are kept."""

    kind: Literal["norm"] = "norm"


class RandomScorer(Value):
    """Parameter-free control: a fixed pseudo-random order of grid positions.

    Attributes:
        seed: Seed of the order.
    """

    kind: Literal["random"] = "random"
    seed: int = 0


Reducer = Annotated[Prune | Fuse | Merge | FastSlow, Field(discriminator="kind")]
Scorer = Annotated[
    DynamicVitScorer | SpotScorer | ClassAttentionScorer | KeyNormScorer | NormScorer | RandomScorer,
    Field(discriminator="kind"),
]


def is_learned(scorer: Scorer | None) -> bool:
    """Whether a scorer has parameters."""
    return isinstance(scorer, DynamicVitScorer | SpotScorer)


def reads_attention(reducer: Reducer, scorer: Scorer | None) -> bool:
    """Whether a step reads the last attention before it."""
    if isinstance(reducer, Merge):
        return reducer.metric == "keys"
    return isinstance(scorer, SpotScorer | ClassAttentionScorer | KeyNormScorer)
