"""Token reductions: pruning, fusing and merging as maps from input tokens to output tokens.

A reduction is computed once and then applied to everything that is stored per token: the tokens themselves, their
positions, the number of patches they represent, and the records of earlier attention layers.

Shapes: `B` batch, `N` input tokens, `K` output tokens, `M` of N, `C` channels; prefix tokens are never included.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sparsesearch.errors import ShapeError
from sparsesearch.sparsify.gather import divide_tokens, gather_tokens, select_tokens

NO_POSITION = -1
GONE = -1


class Reduction(Protocol):
    """A reduction of the tokens of a batch."""

    def average(self, x_BNC: Tensor) -> Tensor:
        """Reduce features to `B x K x C`; a fused or merged token is an average."""

    def total(self, x_BN: Tensor) -> Tensor:
        """Reduce amounts to `B x K`; a fused or merged token has the sum."""

    def positions(self, positions_BN: Tensor) -> Tensor:
        """Reduce raster indices to `B x K`; -1 for a fused token, which has no position."""

    def destinations(self, num_tokens: int) -> Tensor:
        """The output token that each of the `num_tokens` becomes part of, `B x N`; -1 for a dropped one."""


class Pruned(NamedTuple):
    """Only some tokens are kept.

    Attributes:
        index_BK: Indices of the kept tokens, best first.
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
    """The best tokens are kept, and all others are fused into one additional token.

    Attributes:
        index_BK: Indices of the kept tokens, best first; one less than the output tokens.
        rest_BM: Indices of all others.
        weight_BM: Weight of each of the others in the fused token.

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
        none_B1 = torch.full_like(positions_BN[:, :1], NO_POSITION)
        return torch.cat((positions_BN.gather(1, self.index_BK), none_B1), dim=1)

    def destinations(self, num_tokens: int) -> Tensor:
        """As in `Reduction`."""
        return _numbered(self.index_BK, num_tokens, others=self.index_BK.shape[1])


class Merged(NamedTuple):
    """Every second token can be merged into a similar one of the others; the least similar ones stay separate.

    Attributes:
        apart_BA: Tokens of the first set that stay separate.
        source_BM: Tokens of the first set that are merged.
        target_BM: Token of the second set that each of them is merged into, an index into that set.
        second_N2: The second set, the same for all images; all of it is kept.
        size_BN: Number of patches that each input token represents; averages are weighted with it.

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
        size_B21 = self._joined_size().unsqueeze(-1).to(x_BNC.dtype)
        return torch.cat((gather_tokens(x_BNC, self.apart_BA), joined_B2C / size_B21), dim=1)

    def total(self, x_BN: Tensor) -> Tensor:
        """As in `Reduction`."""
        joined_B2 = x_BN.index_select(1, self.second_N2).scatter_add(1, self.target_BM, x_BN.gather(1, self.source_BM))
        return torch.cat((x_BN.gather(1, self.apart_BA), joined_B2), dim=1)

    def positions(self, positions_BN: Tensor) -> Tensor:
        """As in `Reduction`: a merged token has the position of its target."""
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
    """Keep the tokens with the largest scores.

    Args:
        score_BN: Scores; the largest are kept.
        num_kept: Number of output tokens.

    Source: DynamicViT (arXiv:2106.02034), section 3.4.
    """
    return Pruned(select_tokens(score_BN, num_kept))


def fuse(score_BN: Tensor, weight_BN: Tensor, num_kept: int, *, normalize: bool) -> Fused:
    """Keep the tokens with the largest scores, and fuse all others into one.

    Args:
        score_BN: Scores; the largest are kept.
        weight_BN: Non-negative weight of each token in the fused one.
        num_kept: Number of output tokens, including the fused one.
        normalize: Divide weights by their sum; otherwise the fused token is the plain weighted sum.

    Source: EViT (arXiv:2202.07800), section 3.3.
    """
    num_tokens = score_BN.shape[1]
    if not 1 <= num_kept < num_tokens:
        raise ShapeError(f"cannot fuse {num_tokens} tokens to {num_kept}; at least two tokens must be fused into one")
    index_BK, rest_BM = divide_tokens(score_BN.detach().float(), num_kept - 1)
    weight_BM = weight_BN.gather(1, rest_BM)
    if normalize:
        weight_BM = weight_BM.float()
        weight_BM = weight_BM / weight_BM.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return Fused(index_BK, rest_BM, weight_BM)


def merge(metric_BNC: Tensor, size_BN: Tensor, num_kept: int, *, num_prefix_tokens: int) -> Merged:
    """Merge the most similar pairs between every second token and the others, by cosine similarity.

    Of the whole sequence, prefix tokens included, the first set are the tokens with even indices, the second those with
    odd indices; prefix tokens belong to neither. Each token of the first set has one candidate, the most similar token
    of the second; the pairs of highest similarity are merged. The tokens of the first set that stay separate come
    first in the result, in their order if there are prefix tokens, else the most similar first; then all of the second.

    Args:
        metric_BNC: Features that similarity is computed on.
        size_BN: Number of patches that each token represents.
        num_kept: Number of output tokens, at least half of the input tokens.
        num_prefix_tokens: Prefix tokens in front of the sequence, which are not part of the features.

    Source: ToMe (arXiv:2210.09461), section 3 and appendix D, "bipartite soft matching".
    """
    num_tokens = metric_BNC.shape[1]
    num_away = num_tokens - num_kept
    if not 0 <= num_away <= num_tokens // 2:
        raise ShapeError(f"cannot merge {num_tokens} tokens to {num_kept}; at most half of them can be merged")
    first = num_prefix_tokens % 2
    unit_BNC = torch.nn.functional.normalize(metric_BNC.detach(), dim=-1)
    similarity_B12 = unit_BNC[:, first::2] @ unit_BNC[:, 1 - first :: 2].transpose(1, 2)
    best = similarity_B12.max(dim=-1)
    order_B1 = best.values.float().argsort(dim=1, descending=True)
    away_BM, apart_BA = order_B1[:, :num_away], order_B1[:, num_away:]
    if num_prefix_tokens:
        apart_BA = apart_BA.sort(dim=1).values
    return Merged(
        apart_BA=2 * apart_BA + first,
        source_BM=2 * away_BM + first,
        target_BM=best.indices.gather(1, away_BM),
        second_N2=torch.arange(1 - first, num_tokens, 2, device=metric_BNC.device),
        size_BN=size_BN,
    )


def _numbered(index_BK: Tensor, num_tokens: int, *, others: int) -> Tensor:
    """The index of each token in a list of tokens, `B x N`; `others` for those that are not in the list."""
    batch, count = index_BK.shape
    number_BK = torch.arange(count, device=index_BK.device).expand(batch, -1)
    return index_BK.new_full((batch, num_tokens), others).scatter_(1, index_BK, number_BK)
