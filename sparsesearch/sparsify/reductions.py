"""Fewer tokens: pruning, fusing and merging as maps from the tokens that arrive to those that go on.

A reduction is decided once and then carried out on everything that is kept for each token: the tokens themselves,
their positions, how many patches they stand for, and what earlier attention said of them.

Shapes: `B` batch, `N` tokens that arrive, `K` tokens that go on, `M` of N, `C` channels; prefix tokens are never here.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sparsesearch.errors import ShapeError
from sparsesearch.sparsify.gather import gather_tokens, select_tokens

NO_POSITION = -1
GONE = -1


class Reduction(Protocol):
    """One decision, for all images of a batch."""

    def average(self, x_BNC: Tensor) -> Tensor:
        """What tokens are made of, `B x K x C`; a fused or merged one is an average."""

    def total(self, x_BN: Tensor) -> Tensor:
        """Amounts, `B x K`; a fused or merged one has the sum."""

    def positions(self, positions_BN: Tensor) -> Tensor:
        """Raster indices, `B x K`; -1 for a fused token, which has no place."""

    def destinations(self, num_tokens: int) -> Tensor:
        """Which token that goes on each of the `num_tokens` becomes part of, `B x N`; -1 for one that is dropped."""


class Pruned(NamedTuple):
    """Only some tokens go on.

    Attributes:
        index_BK: Which ones, best first.
    """

    index_BK: Tensor

    def average(self, x_BNC: Tensor) -> Tensor:
        """As in `Reduction`."""
        return gather_tokens(x_BNC, self.index_BK)

    def total(self, x_BN: Tensor) -> Tensor:
        """As in `Reduction`."""
        return x_BN.gather(1, self.index_BK)

    def positions(self, positions_BN: Tensor) -> Tensor:
        """As in `Reduction`."""
        return positions_BN.gather(1, self.index_BK)

    def destinations(self, num_tokens: int) -> Tensor:
        """As in `Reduction`."""
        return _numbered(self.index_BK, num_tokens, others=GONE)


class Fused(NamedTuple):
    """The best tokens go on, and one more that is made of all others.

    Attributes:
        index_BK: The best ones, best first; one less than go on.
        rest_BM: All others.
        weight_BM: How much of each of them goes into the fused token.

    Source: EViT (arXiv:2202.07800), section 3.3.
    """

    index_BK: Tensor
    rest_BM: Tensor
    weight_BM: Tensor

    def average(self, x_BNC: Tensor) -> Tensor:
        """As in `Reduction`."""
        weight_BM1 = self.weight_BM.unsqueeze(-1).to(x_BNC.dtype)
        fused_B1C = (gather_tokens(x_BNC, self.rest_BM) * weight_BM1).sum(dim=1, keepdim=True)
        return torch.cat((gather_tokens(x_BNC, self.index_BK), fused_B1C), dim=1)

    def total(self, x_BN: Tensor) -> Tensor:
        """As in `Reduction`."""
        fused_B1 = x_BN.gather(1, self.rest_BM).sum(dim=1, keepdim=True)
        return torch.cat((x_BN.gather(1, self.index_BK), fused_B1), dim=1)

    def positions(self, positions_BN: Tensor) -> Tensor:
        """As in `Reduction`."""
        nowhere_B1 = torch.full_like(positions_BN[:, :1], NO_POSITION)
        return torch.cat((positions_BN.gather(1, self.index_BK), nowhere_B1), dim=1)

    def destinations(self, num_tokens: int) -> Tensor:
        """As in `Reduction`."""
        return _numbered(self.index_BK, num_tokens, others=self.index_BK.shape[1])


class Merged(NamedTuple):
    """Every second token may be merged into a similar one of the others; those that are least similar stay apart.

    Attributes:
        apart_BA: Tokens of the first set that stay apart.
        source_BM: Tokens of the first set that are merged away.
        target_BM: Into which token of the second set each of them goes, an index into that set.
        second_N2: The second set, the same for all images; all of it goes on.
        size_BN: How many patches each token that arrives stands for; averages are weighted with it.

    Source: ToMe (arXiv:2210.09461), section 3.
    """

    apart_BA: Tensor
    source_BM: Tensor
    target_BM: Tensor
    second_N2: Tensor
    size_BN: Tensor

    def average(self, x_BNC: Tensor) -> Tensor:
        """As in `Reduction`."""
        size_BN1 = self.size_BN.unsqueeze(-1).to(x_BNC.dtype)
        weighted_BNC = x_BNC * size_BN1
        away_BMC = gather_tokens(weighted_BNC, self.source_BM)
        target_BMC = self.target_BM.unsqueeze(-1).expand_as(away_BMC)
        joined_B2C = weighted_BNC.index_select(1, self.second_N2).scatter_add(1, target_BMC, away_BMC)
        share_B21 = self._joined_size().unsqueeze(-1).to(x_BNC.dtype)
        return torch.cat((gather_tokens(x_BNC, self.apart_BA), joined_B2C / share_B21), dim=1)

    def total(self, x_BN: Tensor) -> Tensor:
        """As in `Reduction`."""
        joined_B2 = x_BN.index_select(1, self.second_N2).scatter_add(1, self.target_BM, x_BN.gather(1, self.source_BM))
        return torch.cat((x_BN.gather(1, self.apart_BA), joined_B2), dim=1)

    def positions(self, positions_BN: Tensor) -> Tensor:
        """As in `Reduction`: a merged token is where the one is that it was merged into."""
        return torch.cat((positions_BN.gather(1, self.apart_BA), positions_BN.index_select(1, self.second_N2)), dim=1)

    def destinations(self, num_tokens: int) -> Tensor:
        """As in `Reduction`."""
        num_apart = self.apart_BA.shape[1]
        found_BN = _numbered(self.apart_BA, num_tokens, others=GONE)
        found_BN[:, self.second_N2] = num_apart + torch.arange(len(self.second_N2), device=found_BN.device)
        return found_BN.scatter_(1, self.source_BM, num_apart + self.target_BM)

    def _joined_size(self) -> Tensor:
        return self.size_BN.index_select(1, self.second_N2).scatter_add(
            1, self.target_BM, self.size_BN.gather(1, self.source_BM)
        )


def prune(score_BN: Tensor, num_kept: int) -> Pruned:
    """Keep the best-scored tokens.

    Args:
        score_BN: Larger is kept.
        num_kept: Tokens that go on.

    Source: DynamicViT (arXiv:2106.02034), section 3.4.
    """
    return Pruned(select_tokens(score_BN, num_kept))


def fuse(score_BN: Tensor, weight_BN: Tensor, num_kept: int, *, normalize: bool) -> Fused:
    """Keep the best-scored tokens but one, and fuse all others.

    Args:
        score_BN: Larger is kept.
        weight_BN: Non-negative weight of each token in the fused one.
        num_kept: Tokens that go on, the fused one included.
        normalize: Divide weights by their sum; otherwise the fused token is the plain weighted sum.

    Source: EViT (arXiv:2202.07800), section 3.3.
    """
    num_tokens = score_BN.shape[1]
    if not 1 <= num_kept < num_tokens:
        raise ShapeError(f"cannot fuse {num_tokens} tokens to {num_kept}; at least two are fused into one")
    order_BN = select_tokens(score_BN, num_tokens)
    rest_BM = order_BN[:, num_kept - 1 :]
    weight_BM = weight_BN.gather(1, rest_BM)
    if normalize:
        weight_BM = weight_BM.float()
        weight_BM = weight_BM / weight_BM.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return Fused(order_BN[:, : num_kept - 1], rest_BM, weight_BM)


def merge(metric_BNC: Tensor, size_BN: Tensor, num_kept: int) -> Merged:
    """Merge the most similar pairs between every second token and the others, by cosine similarity.

    The first set are the tokens at odd places, the second those at even places. Each token of the first set has one
    candidate, the most similar token of the second; the pairs of highest similarity are merged.

    Args:
        metric_BNC: What similarity is measured on.
        size_BN: How many patches each token stands for.
        num_kept: Tokens that go on, at least half of those that arrive.

    Source: ToMe (arXiv:2210.09461), section 3, "bipartite soft matching".
    """
    num_tokens = metric_BNC.shape[1]
    num_away = num_tokens - num_kept
    if not 0 <= num_away <= num_tokens // 2:
        raise ShapeError(f"cannot merge {num_tokens} tokens to {num_kept}; at most half of them can be merged away")
    unit_BNC = torch.nn.functional.normalize(metric_BNC.detach(), dim=-1)
    similarity_B12 = unit_BNC[:, 1::2] @ unit_BNC[:, ::2].transpose(1, 2)
    best = similarity_B12.max(dim=-1)
    order_B1 = best.values.float().topk(num_tokens // 2, dim=1).indices
    away_BM, apart_BA = order_B1[:, :num_away], order_B1[:, num_away:]
    return Merged(
        apart_BA=2 * apart_BA + 1,
        source_BM=2 * away_BM + 1,
        target_BM=best.indices.gather(1, away_BM),
        second_N2=torch.arange(0, num_tokens, 2, device=metric_BNC.device),
        size_BN=size_BN,
    )


def _numbered(index_BK: Tensor, num_tokens: int, *, others: int) -> Tensor:
    """The place of each token in a list of some of them, `B x N`; `others` for those that are not in it."""
    batch, count = index_BK.shape
    number_BK = torch.arange(count, device=index_BK.device).expand(batch, -1)
    return index_BK.new_full((batch, num_tokens), others).scatter_(1, index_BK, number_BK)
