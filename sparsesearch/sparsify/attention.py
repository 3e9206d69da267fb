"""Self-attention that also records what scorers need, without materialising more than necessary.

Shapes: `B` batch, `H` heads, `T` tokens incl. `P` prefix tokens, `N` patch tokens, `D` channels of a head, `F` six
statistics, or four without a class token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sparsesearch.sparsify.gather import masked_softmax
from sparsesearch.sparsify.reductions import Reduction

_MANY_TOKENS = 128
"""From this number of tokens on, attention maps are computed one head at a time, to save memory."""


@dataclass(frozen=True)
class Captures:
    """What one attention layer must record.

    Attributes:
        class_row: Attention of the class token to each patch token, averaged over heads.
        keys: The keys, averaged over heads.
        key_norm: The norm of the keys, averaged over heads.
        statistics: SPOT's statistics of the full map.
    """

    class_row: bool = False
    keys: bool = False
    key_norm: bool = False
    statistics: bool = False

    def __or__(self, other: Captures) -> Captures:
        """Everything requested by either of the two."""
        return Captures(
            class_row=self.class_row or other.class_row,
            keys=self.keys or other.keys,
            key_norm=self.key_norm or other.key_norm,
            statistics=self.statistics or other.statistics,
        )


class LayerStatistics(NamedTuple):
    """SPOT's statistics of one attention layer, scaled to be independent of the number of tokens.

    Attributes:
        values_BNHF: Means times N and population variances times N squared, in the order of `ATTENTION_STATISTICS`
            (the first two only with a class token).
        bessel_B: Factor from population to sample variance, N / (N - 1) of each image.
    """

    values_BNHF: Tensor
    bessel_B: Tensor


class Notes(NamedTuple):
    """Records of one attention layer; None if not requested.

    Attributes:
        class_row_BN: Attention of the class token to each patch token.
        keys_BND: Keys of patch tokens.
        key_norm_BN: Their norm.
    """

    class_row_BN: Tensor | None = None
    keys_BND: Tensor | None = None
    key_norm_BN: Tensor | None = None

    def carried(self, reduction: Reduction) -> Notes:
        """The records of the tokens that remain after a reduction."""
        return Notes(
            class_row_BN=None if self.class_row_BN is None else reduction.total(self.class_row_BN),
            keys_BND=None if self.keys_BND is None else reduction.average(self.keys_BND),
            key_norm_BN=None
            if self.key_norm_BN is None
            else reduction.average(self.key_norm_BN.unsqueeze(-1)).squeeze(-1),
        )


NOTHING_NOTED = Notes()


class Attended(NamedTuple):
    """Result of `attend`.

    Attributes:
        y_BHTD: Weighted sums of the values.
        notes: The requested records.
        statistics: The statistics, if requested.
    """

    y_BHTD: Tensor
    notes: Notes
    statistics: LayerStatistics | None = None


class AttentionRequest(NamedTuple):
    """What one attention layer of a call must do in addition to plain attention.

    Attributes:
        captures: What to record.
        size_BT: Number of patches that each token represents, for proportional attention; None for plain attention.
        policy_BT: Keep policy of masked training.
        num_prefix_tokens: Class and register tokens at the start.
        has_class_token: Whether the first of them is a class token.
        note: Receives the records.
    """

    captures: Captures
    size_BT: Tensor | None
    policy_BT: Tensor | None
    num_prefix_tokens: int
    has_class_token: bool
    note: Callable[[Attended], None]


def attend(
    q_BHTD: Tensor,
    k_BHTD: Tensor,
    v_BHTD: Tensor,
    *,
    scale: float,
    num_prefix_tokens: int,
    has_class_token: bool,
    captures: Captures,
    size_BT: Tensor | None = None,
    policy_BT: Tensor | None = None,
    dropout: float = 0.0,
    fused: bool = True,
) -> Attended:
    """Softmax attention, fused unless the full map is needed.

    Args:
        q_BHTD: Queries.
        k_BHTD: Keys.
        v_BHTD: Values.
        scale: Factor of the scores.
        num_prefix_tokens: Class and register tokens at the start.
        has_class_token: Whether the first of them is a class token.
        captures: What to record.
        size_BT: Number of patches that each token represents, for proportional attention (ToMe, arXiv:2210.09461,
            section 3).
        policy_BT: Keep policy of masked training (DynamicViT, arXiv:2106.02034, section 3.3).
        dropout: Fraction of attention weights set to 0.
        fused: Whether to use torch's fused attention where possible, as timm's `set_fused_attn` says.
    """
    prefix = num_prefix_tokens
    bias_B11T = None if size_BT is None else size_BT.log().to(q_BHTD.dtype)[:, None, None, :]
    class_row_BN: Tensor | None = None
    statistics: LayerStatistics | None = None
    if policy_BT is not None:
        map_BHTT = masked_softmax((q_BHTD * scale) @ k_BHTD.transpose(-2, -1), policy_BT)
        if captures.class_row:
            class_row_BN = map_BHTT[:, :, 0, prefix:].float().mean(dim=1)
        if captures.statistics:
            statistics = attention_statistics(
                map_BHTT, num_prefix_tokens=prefix, has_class_token=has_class_token, policy_BN=policy_BT[:, prefix:]
            )
        y_BHTD = _dropped(map_BHTT, dropout) @ v_BHTD
    elif captures.statistics:
        y_BHTD, statistics, row_BN = _attend_with_statistics(
            q_BHTD, k_BHTD, v_BHTD, bias_B11T, scale=scale, prefix=prefix, has_class=has_class_token, dropout=dropout
        )
        class_row_BN = row_BN if captures.class_row else None
    else:
        if fused:
            y_BHTD = functional.scaled_dot_product_attention(
                q_BHTD, k_BHTD, v_BHTD, attn_mask=bias_B11T, dropout_p=dropout, scale=scale
            )
        else:
            y_BHTD = _dropped(_weights(q_BHTD, k_BHTD, bias_B11T, scale=scale), dropout) @ v_BHTD
        if captures.class_row:
            class_row_BN = _class_row(q_BHTD, k_BHTD, bias_B11T, scale=scale)[:, prefix:]
    patch_keys_BHND = k_BHTD[:, :, prefix:]
    notes = Notes(
        class_row_BN=class_row_BN,
        keys_BND=patch_keys_BHND.mean(dim=1) if captures.keys else None,
        key_norm_BN=patch_keys_BHND.float().norm(dim=-1).mean(dim=1) if captures.key_norm else None,
    )
    return Attended(y_BHTD, notes, statistics)


def attention_statistics(
    map_BHTT: Tensor, *, num_prefix_tokens: int, has_class_token: bool, policy_BN: Tensor | None = None
) -> LayerStatistics:
    """SPOT's six statistics for each patch token and head, from attention maps.

    They are the attention from and to the class token, and mean and variance of the token's row and column in the
    patch-to-patch part of the map; computed in float32. Tokens dropped in masked training are excluded.

    Args:
        map_BHTT: Attention maps; rows sum to 1.
        num_prefix_tokens: Prefix tokens at the start.
        has_class_token: Whether the first of them is a class token; without it there are four statistics.
        policy_BN: 1 for a patch token that is kept.

    Source: SPOT (arXiv:2511.10488), section "attention dynamics".
    """
    prefix = num_prefix_tokens
    patches_BHNN = map_BHTT[:, :, prefix:, prefix:].float()
    batch, _, num, _ = patches_BHNN.shape
    if policy_BN is None:
        count_B = patches_BHNN.new_full((batch,), float(num))
        rows_BHNN = columns_BHNN = patches_BHNN
    else:
        alive_BN = (policy_BN.detach() > 0.5).to(patches_BHNN.dtype)
        count_B = alive_BN.sum(dim=1).clamp_min(1.0)
        rows_BHNN = patches_BHNN * alive_BN[:, None, None, :]
        columns_BHNN = patches_BHNN * alive_BN[:, None, :, None]
    count_B11 = count_B[:, None, None]
    row_mean, row_var = _moments(rows_BHNN, count_B11, dim=-1)
    column_mean, column_var = _moments(columns_BHNN, count_B11, dim=-2)
    found = [row_mean, row_var, column_mean, column_var]
    if has_class_token:
        to_class = map_BHTT[:, :, prefix:, 0].float() * count_B11
        from_class = map_BHTT[:, :, 0, prefix:].float() * count_B11
        found = [from_class, to_class, *found]
    bessel_B = count_B / (count_B - 1.0).clamp_min(1.0)
    return LayerStatistics(torch.stack(found, dim=-1).transpose(1, 2), bessel_B)


def _moments(values_BHNN: Tensor, count_B11: Tensor, *, dim: int) -> tuple[Tensor, Tensor]:
    """N times the mean, and N^2 times the population variance, over one axis."""
    sum_BHN = values_BHNN.sum(dim=dim)
    square_BHN = (values_BHNN * values_BHNN).sum(dim=dim)
    return sum_BHN, (square_BHN * count_B11 - sum_BHN * sum_BHN).clamp_min(0.0)


def _weights(q_BHTD: Tensor, k_BHTD: Tensor, bias_B11T: Tensor | None, *, scale: float) -> Tensor:
    scores_BHTT = (q_BHTD * scale) @ k_BHTD.transpose(-2, -1)
    return (scores_BHTT if bias_B11T is None else scores_BHTT + bias_B11T).softmax(dim=-1)


def _dropped(weights_BHTT: Tensor, dropout: float) -> Tensor:
    return functional.dropout(weights_BHTT, dropout) if dropout else weights_BHTT


def _class_row(q_BHTD: Tensor, k_BHTD: Tensor, bias_B11T: Tensor | None, *, scale: float) -> Tensor:
    """Attention of the first token only, averaged over heads, `B x T`."""
    scores_BHT = (k_BHTD @ (q_BHTD[:, :, 0] * scale).unsqueeze(-1)).squeeze(-1).float()
    if bias_B11T is not None:
        scores_BHT = scores_BHT + bias_B11T[:, :, 0]
    return scores_BHT.softmax(dim=-1).mean(dim=1)


def _attend_with_statistics(
    q_BHTD: Tensor,
    k_BHTD: Tensor,
    v_BHTD: Tensor,
    bias_B11T: Tensor | None,
    *,
    scale: float,
    prefix: int,
    has_class: bool,
    dropout: float,
) -> tuple[Tensor, LayerStatistics, Tensor]:
    """Attention with its statistics and class row, a few heads at a time."""
    batch, heads, tokens, _ = q_BHTD.shape
    together = 1 if tokens >= _MANY_TOKENS else heads
    parts: list[tuple[Tensor, LayerStatistics]] = []
    row_BT = q_BHTD.new_zeros((batch, tokens), dtype=torch.float32)
    for first in range(0, heads, together):
        some = slice(first, first + together)
        weights = _weights(q_BHTD[:, some], k_BHTD[:, some], bias_B11T, scale=scale)
        noted = attention_statistics(weights, num_prefix_tokens=prefix, has_class_token=has_class)
        row_BT = row_BT + weights[:, :, 0].float().sum(dim=1)
        parts.append((_dropped(weights, dropout) @ v_BHTD[:, some], noted))
    y_BHTD = torch.cat([y for y, _ in parts], dim=1)
    values_BNHF = torch.cat([noted.values_BNHF for _, noted in parts], dim=2)
    return y_BHTD, LayerStatistics(values_BNHF, parts[0][1].bessel_B), (row_BT / heads)[:, prefix:]
