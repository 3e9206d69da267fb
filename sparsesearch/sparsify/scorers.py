"""Token scorers: controls without parameters, and the construction of scorers from those of a schedule.

A token scorer maps tokens to `B x N x 2` scores, keep in column 0 and drop in column 1. Tokens are ranked by the
difference; for a learned head the two columns are log-probabilities.

Shapes: `B` batch, `N` tokens without prefix tokens, `C` channels.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from sparsesearch.errors import ShapeError
from sparsesearch.schedule.methods import (
    ClassAttentionScorer,
    DynamicVitScorer,
    KeyNormScorer,
    NormScorer,
    RandomScorer,
    Scorer,
    SpotScorer,
)
from sparsesearch.sparsify.attention import NOTHING_NOTED, LayerStatistics, Notes
from sparsesearch.sparsify.predictors import DynamicVitPredictor, SpotPredictor


class Seen(NamedTuple):
    """Inputs of a scorer in addition to the tokens.

    Attributes:
        policy_BN: 1 for tokens that are kept; None if all of them are.
        positions_BN: Raster index of each token in the initial grid, -1 for a fused one; None for all positions in
            raster order.
        notes: Records of the last attention layer.
        statistics: SPOT's statistics of the requested layers, oldest first.
    """

    policy_BN: Tensor | None = None
    positions_BN: Tensor | None = None
    notes: Notes = NOTHING_NOTED
    statistics: tuple[LayerStatistics, ...] = ()


class TokenScorer(Protocol):
    """A pure function that scores tokens: equal arguments give equal scores."""

    def __call__(self, x_BNC: Tensor, seen: Seen) -> Tensor:
        """Scores of shape `B x N x 2`.

        Args:
            x_BNC: Tokens without prefix tokens.
            seen: Additional inputs.
        """


class TokenNorm:
    """Control: the L2 norm of each token; the largest are kept."""

    def __call__(self, x_BNC: Tensor, seen: Seen) -> Tensor:
        """The norm in column 0, zero in column 1."""
        return _against_zero(x_BNC.detach().float().norm(dim=-1))


class KeyNorm:
    """Control: the norm of each token's key; the largest are kept."""

    def __call__(self, x_BNC: Tensor, seen: Seen) -> Tensor:
        """The norm in column 0, zero in column 1."""
        norm_BN = seen.notes.key_norm_BN
        assert norm_BN is not None, "the last attention layer did not record it"
        return _against_zero(norm_BN.detach())


class ClassAttention:
    """Attention of the class token to each token; the largest are kept (EViT, arXiv:2202.07800, section 3.2)."""

    def __call__(self, x_BNC: Tensor, seen: Seen) -> Tensor:
        """The attention in column 0, zero in column 1."""
        row_BN = seen.notes.class_row_BN
        assert row_BN is not None, "the last attention layer did not record it"
        return _against_zero(row_BN)


class FixedRandomOrder(nn.Module):
    """Control: a pseudo-random order of the grid positions, the same for every image; a fused token comes last.

    The order is a buffer, which moves with the model and is not saved with it.

    Args:
        num_tokens: Positions of the initial grid.
        seed: Seed of the order.
    """

    def __init__(self, num_tokens: int, *, seed: int) -> None:
        super().__init__()
        order_N = torch.randperm(num_tokens, generator=torch.Generator().manual_seed(seed), device="cpu")
        self.rank_N: Tensor
        self.register_buffer("rank_N", order_N, persistent=False)

    def forward(self, x_BNC: Tensor, seen: Seen) -> Tensor:
        """The rank of each token's position in column 0, zero in column 1."""
        rank_N = self.rank_N.float()
        if seen.positions_BN is not None:
            rank_BN = torch.cat((rank_N, rank_N.new_full((1,), -1.0)))[seen.positions_BN]
        elif x_BNC.shape[1] == rank_N.shape[0]:
            rank_BN = rank_N.expand(x_BNC.shape[0], -1)
        else:
            raise ShapeError(f"{x_BNC.shape[1]} of {rank_N.shape[0]} tokens remain; their positions are required")
        return _against_zero(rank_BN)


def build_predictor(
    scorer: DynamicVitScorer | SpotScorer,
    *,
    dim: int,
    name: str,
    seed: int = 0,
    num_statistics: int = 0,
    has_class_token: bool = True,
    eps: float = 1e-5,
) -> nn.Module:
    """Build a predictor head whose initial weights depend only on `seed` and `name`, not on the order of construction.

    Args:
        scorer: Scorer of a schedule.
        dim: Channels of the tokens.
        name: Its location in the model, for example `0_3`.
        seed: Seed of the initial weights.
        num_statistics: Number of statistics per token that SPOT reads, over its layers and heads.
        has_class_token: Whether the backbone has a class token (SPOT).
        eps: Epsilon of the layer norm.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        if isinstance(scorer, DynamicVitScorer):
            return DynamicVitPredictor(dim, generator=generator, eps=eps)
        return SpotPredictor(
            dim,
            scorer,
            num_statistics=num_statistics,
            has_class_token=has_class_token,
            generator=generator,
            eps=eps,
        )


def build_control(scorer: Scorer, *, num_tokens: int) -> TokenScorer:
    """Build a scorer without parameters.

    Args:
        scorer: Scorer of a schedule.
        num_tokens: Positions of the initial grid.
    """
    if isinstance(scorer, NormScorer):
        return TokenNorm()
    if isinstance(scorer, KeyNormScorer):
        return KeyNorm()
    if isinstance(scorer, ClassAttentionScorer):
        return ClassAttention()
    assert isinstance(scorer, RandomScorer), f"{scorer.kind} has parameters"
    return FixedRandomOrder(num_tokens, seed=scorer.seed)


def _against_zero(score_BN: Tensor) -> Tensor:
    return torch.stack((score_BN, torch.zeros_like(score_BN)), dim=-1)
