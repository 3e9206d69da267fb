"""What a step of a schedule may do and how it may rank tokens, as frozen values: reducers and scorers."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from sparsesearch.value import Value


class Prune(Value):
    """Drop the tokens that are not kept (DynamicViT, arXiv:2106.02034, section 3.3)."""

    kind: Literal["prune"] = "prune"


class Fuse(Value):
    """Replace the tokens that are not kept by one, their average weighted by score (EViT, arXiv:2202.07800, 3.3).

    The fused token counts as kept: of `k` tokens that go on, `k - 1` are the best and one is made of all others.

    Attributes:
        normalize: Divide by the sum of weights. EViT itself does not: its fused token is the plain weighted sum.
    """

    kind: Literal["fuse"] = "fuse"
    normalize: bool = True


class Merge(Value):
    """Merge the most similar tokens pairwise, by bipartite soft matching (ToMe, arXiv:2210.09461, section 3).

    At most half of the tokens can go at one location. Nothing is ranked, so such a step has no scorer.

    Attributes:
        metric: What similarity is measured on: the keys of the last attention, averaged over heads, or the tokens.
        proportional_attention: Let later attention weigh each token by the number of patches it stands for.
    """

    kind: Literal["merge"] = "merge"
    metric: Literal["keys", "tokens"] = "keys"
    proportional_attention: bool = True


FastPath = Literal["linear", "identity", "bottleneck"]


class FastSlow(Value):
    """Keep every token, but give those that are not chosen a cheap path in place of the feed-forward network.

    It holds from its block to the next such step or the end of the stage (arXiv:2207.01580, section 3.3).

    Attributes:
        fast_path: `linear` is the paper's layer norm and one linear layer; `bottleneck` has two, a quarter of the
            channels between them; `identity` leaves the token as it is.
    """

    kind: Literal["fast_slow"] = "fast_slow"
    fast_path: FastPath = "linear"


def fast_path_macs(fast_path: FastPath, *, dim: int) -> int:
    """Multiply-adds of the fast path of one position (arXiv:2207.01580, section 3.3, for the linear one)."""
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
    """The learned predictor of SPOT: token embeddings beside statistics of attention (arXiv:2511.10488).

    The paper leaves some choices open; each is an option here.

    Attributes:
        layers: Whose statistics are used: those since the last step, all layers so far, or that many last ones.
        heads: Put the statistics of all heads side by side, or average them.
        variance: Divide squared deviations by the number of tokens, or by one less.
        statistics: Which of the six are used; a backbone without class token has no `cls_out` and `cls_in`.
        detach: Let no gradient into attention through the statistics.
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
        """One model is written in one way: each statistic once, in the order of the paper."""
        return tuple(name for name in ATTENTION_STATISTICS if name in names)

    def available(self, *, has_class_token: bool) -> tuple[AttentionStatistic, ...]:
        """Those of the wanted statistics that a backbone can give."""
        return tuple(name for name in self.statistics if has_class_token or name not in CLASS_STATISTICS)


class ClassAttentionScorer(Value):
    """How much the class token attends to each token, mean over heads (EViT, arXiv:2202.07800, section 3.2).

    The attention is that of the last attention before the step: of the same block for `before_ffn`, of the block
    before for `before_block`.
    """

    kind: Literal["class_attention"] = "class_attention"


class KeyNormScorer(Value):
    """Control without parameters: the L2 norm of each token's key in the last attention, mean over heads."""

    kind: Literal["key_norm"] = "key_norm"


class NormScorer(Value):
    """Control without parameters: the L2 norm of each token; larger is kept."""

    kind: Literal["norm"] = "norm"


class RandomScorer(Value):
    """Control without parameters: a fixed pseudo-random order of grid positions.

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
    """Whether a scorer has parameters, and so a place of its own in the model."""
    return isinstance(scorer, DynamicVitScorer | SpotScorer)


def reads_attention(reducer: Reducer, scorer: Scorer | None) -> bool:
    """Whether a step needs what the last attention before it saw."""
    if isinstance(reducer, Merge):
        return reducer.metric == "keys"
    return isinstance(scorer, SpotScorer | ClassAttentionScorer | KeyNormScorer)
