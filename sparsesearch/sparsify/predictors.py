"""Learned heads that score tokens: DynamicViT's, and SPOT's, which also reads attention statistics.

Shapes: `B` batch, `N` tokens without prefix tokens, `C` channels, `H` heads, `F` statistics of a head, `S` statistics
of a token in all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sparsesearch.schedule.methods import ATTENTION_STATISTICS, SpotScorer

if TYPE_CHECKING:
    from sparsesearch.sparsify.attention import LayerStatistics
    from sparsesearch.sparsify.scorers import Seen


class DynamicVitPredictor(nn.Module):
    """DynamicViT's keep/drop head: half of the features are local, half are averaged over the remaining tokens.

    Args:
        dim: Channels of the tokens.
        generator: Source of the initial weights (truncated normal, standard deviation 0.02; zero biases).
        eps: Epsilon of the layer norm.

    Source: DynamicViT (arXiv:2106.02034), section 3.2.
    """

    def __init__(self, dim: int, *, generator: torch.Generator, eps: float = 1e-5) -> None:
        super().__init__()
        self.in_conv = _embedding(dim, eps=eps)
        self.out_conv = _classifier(dim, dim)
        _initialise(self, generator)

    def forward(self, x_BNC: Tensor, seen: Seen) -> Tensor:
        """Log-probabilities of keeping (column 0) and dropping (column 1) each token, `B x N x 2`."""
        scores_BN2: Tensor = self.out_conv(_local_and_global(self.in_conv(x_BNC), seen.policy_BN))
        return scores_BN2


class SpotPredictor(nn.Module):
    """SPOT's head: the features of DynamicViT's head, concatenated with attention statistics of preceding layers.

    Args:
        dim: Channels of the tokens.
        scorer: The options that the paper leaves open.
        num_statistics: Number of statistics per token, over all layers and heads.
        has_class_token: Whether there are statistics of a class token.
        generator: Source of the initial weights.
        eps: Epsilon of the layer norms.

    Source: SPOT (arXiv:2511.10488), section "token relevance module"; its layout is that of DynamicViT.
    """

    def __init__(
        self,
        dim: int,
        scorer: SpotScorer,
        *,
        num_statistics: int,
        has_class_token: bool,
        generator: torch.Generator,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.scorer = scorer
        self._chosen = scorer.available(has_class_token=has_class_token)
        self.in_conv = _embedding(dim, eps=eps)
        self.norm = nn.LayerNorm(dim + num_statistics, eps=eps)
        self.out_conv = _classifier(dim + num_statistics, dim)
        _initialise(self, generator)

    def forward(self, x_BNC: Tensor, seen: Seen) -> Tensor:
        """Log-probabilities of keeping (column 0) and dropping (column 1) each token, `B x N x 2`."""
        features_BNC = _local_and_global(self.in_conv(x_BNC), seen.policy_BN)
        statistics_BNS = torch.cat([self._select(layer) for layer in seen.statistics], dim=-1)
        joined = torch.cat((features_BNC, statistics_BNS.to(features_BNC.dtype)), dim=-1)
        scores_BN2: Tensor = self.out_conv(self.norm(joined))
        return scores_BN2

    def _select(self, layer: LayerStatistics) -> Tensor:
        """The statistics of one layer as input of the head, `B x N x (H F)` or `B x N x F`."""
        values_BNHF = layer.values_BNHF
        offset = len(ATTENTION_STATISTICS) - values_BNHF.shape[-1]
        parts = []
        for name in self._chosen:
            part_BNH = values_BNHF[..., _COLUMNS[name] - offset]
            if self.scorer.variance == "sample" and name.endswith("_var"):
                part_BNH = part_BNH * layer.bessel_B[:, None, None]
            parts.append(part_BNH)
        chosen_BNHF = torch.stack(parts, dim=-1)
        if self.scorer.detach:
            chosen_BNHF = chosen_BNHF.detach()
        return chosen_BNHF.mean(dim=2) if self.scorer.heads == "mean" else chosen_BNHF.flatten(2)


_COLUMNS = {name: column for column, name in enumerate(ATTENTION_STATISTICS)}


def _embedding(dim: int, *, eps: float) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(dim, eps=eps), nn.Linear(dim, dim), nn.GELU())


def _classifier(entry: int, dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(entry, dim // 2),
        nn.GELU(),
        nn.Linear(dim // 2, dim // 4),
        nn.GELU(),
        nn.Linear(dim // 4, 2),
        nn.LogSoftmax(dim=-1),
    )


def _initialise(head: nn.Module, generator: torch.Generator) -> None:
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
            nn.init.zeros_(module.bias)


def _local_and_global(features_BNC: Tensor, policy_BN: Tensor | None) -> Tensor:
    """Replace the second half of the channels by their mean over the remaining tokens."""
    num_local = features_BNC.shape[-1] // 2
    rest = features_BNC[..., num_local:]
    if policy_BN is None:
        mean = rest.mean(dim=1, keepdim=True)
    else:
        alive_BN1 = policy_BN.unsqueeze(-1).to(rest.dtype)
        count_B11 = alive_BN1.sum(dim=1, keepdim=True).clamp_min(1.0)  # masked training may drop every token
        mean = (rest * alive_BN1).sum(dim=1, keepdim=True) / count_B11
    return torch.cat((features_BNC[..., :num_local], mean.expand_as(rest)), dim=-1)
