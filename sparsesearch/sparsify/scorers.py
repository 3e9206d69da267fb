"""What ranks tokens: the DynamicViT predictor head, and two controls without parameters.

A token scorer maps tokens to `B x N x 2` scores, keep in column 0 and drop in column 1. Only their difference
ranks tokens; for the learned head the two columns are log-probabilities.

Shapes: `B` batch, `N` tokens without prefix tokens, `C` channels.
"""

from __future__ import annotations

import zlib
from typing import Protocol

import torch
from torch import Tensor, nn

from sparsesearch.errors import ShapeError
from sparsesearch.methods import DynamicVitScorer, NormScorer, RandomScorer, Scorer


class TokenScorer(Protocol):
    """Scores tokens. Pure: equal arguments give equal scores."""

    def __call__(self, x_BNC: Tensor, *, policy_BN: Tensor | None = None, positions_BN: Tensor | None = None) -> Tensor:
        """Scores of shape `B x N x 2`.

        Args:
            x_BNC: Tokens without prefix tokens.
            policy_BN: 1 where a token is still alive; None if all of them are.
            positions_BN: Raster index of each token in the initial grid; None for all positions in raster order.
        """


class DynamicVitPredictor(nn.Module):
    """The learned keep/drop head: half of the features are local, half are averaged over the tokens still alive.

    Args:
        dim: Channels of the tokens.
        generator: Source of the initial weights (truncated normal, standard deviation 0.02; zero biases).

    Source: DynamicViT (arXiv:2106.02034), section 3.2.
    """

    def __init__(self, dim: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.in_conv = nn.Sequential(nn.LayerNorm(dim, eps=1e-5), nn.Linear(dim, dim), nn.GELU())
        self.out_conv = nn.Sequential(
            nn.Linear(dim, dim // 2),
            nn.GELU(),
            nn.Linear(dim // 2, dim // 4),
            nn.GELU(),
            nn.Linear(dim // 4, 2),
            nn.LogSoftmax(dim=-1),
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
                nn.init.zeros_(module.bias)

    def forward(self, x_BNC: Tensor, *, policy_BN: Tensor | None = None, positions_BN: Tensor | None = None) -> Tensor:
        """Log-probabilities of keeping (column 0) and dropping (column 1) each token, `B x N x 2`."""
        features_BNC = self.in_conv(x_BNC)
        num_local = features_BNC.shape[-1] // 2
        rest = features_BNC[..., num_local:]
        if policy_BN is None:
            mean = rest.mean(dim=1, keepdim=True)
        else:
            alive_BN1 = policy_BN.unsqueeze(-1).to(rest.dtype)
            mean = (rest * alive_BN1).sum(dim=1, keepdim=True) / alive_BN1.sum(dim=1, keepdim=True)
        both = torch.cat((features_BNC[..., :num_local], mean.expand_as(rest)), dim=-1)
        scores_BN2: Tensor = self.out_conv(both)
        return scores_BN2


class TokenNorm(nn.Module):
    """Control: the L2 norm of each token; larger is kept."""

    def forward(self, x_BNC: Tensor, *, policy_BN: Tensor | None = None, positions_BN: Tensor | None = None) -> Tensor:
        """The norm in column 0, zero in column 1."""
        norm_BN = x_BNC.detach().float().norm(dim=-1)
        return torch.stack((norm_BN, torch.zeros_like(norm_BN)), dim=-1)


class FixedRandomOrder(nn.Module):
    """Control: a pseudo-random order of the grid positions, the same for every image.

    Args:
        num_tokens: Positions of the initial grid.
        seed: Seed of the order.
    """

    def __init__(self, num_tokens: int, *, seed: int) -> None:
        super().__init__()
        order_N = torch.randperm(num_tokens, generator=torch.Generator().manual_seed(seed), device="cpu")
        self.rank_N = order_N.to(torch.float32)

    def forward(self, x_BNC: Tensor, *, policy_BN: Tensor | None = None, positions_BN: Tensor | None = None) -> Tensor:
        """The rank of each token's position in column 0, zero in column 1."""
        rank_N = self.rank_N.to(x_BNC.device)
        if positions_BN is not None:
            rank_BN = rank_N[positions_BN]
        elif x_BNC.shape[1] == rank_N.shape[0]:
            rank_BN = rank_N.expand(x_BNC.shape[0], -1)
        else:
            raise ShapeError(f"{x_BNC.shape[1]} of {rank_N.shape[0]} tokens are left; their positions are needed")
        return torch.stack((rank_BN, torch.zeros_like(rank_BN)), dim=-1)


def is_learned(scorer: Scorer) -> bool:
    """Whether a scorer has parameters, and so a place of its own in the model."""
    return isinstance(scorer, DynamicVitScorer)


def build_predictor(scorer: DynamicVitScorer, *, dim: int, name: str, seed: int = 0) -> DynamicVitPredictor:
    """A predictor head whose initial weights depend on `seed` and on its place only, not on what was built before.

    Args:
        scorer: What to build.
        dim: Channels of the tokens.
        name: Its place in the model, for example `0_3`.
        seed: Seed of the initial weights.
    """
    assert scorer.kind == "dynamicvit"
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        return DynamicVitPredictor(dim, generator=generator)


def build_control(scorer: NormScorer | RandomScorer, *, num_tokens: int) -> TokenScorer:
    """A scorer without parameters.

    Args:
        scorer: What to build.
        num_tokens: Positions of the initial grid.
    """
    if isinstance(scorer, NormScorer):
        return TokenNorm()
    return FixedRandomOrder(num_tokens, seed=scorer.seed)
