"""What ranks tokens: controls without parameters, and which scorer is built for which value of a schedule.

A token scorer maps tokens to `B x N x 2` scores, keep in column 0 and drop in column 1. Only their difference
ranks tokens; for a learned head the two columns are log-probabilities.

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
    """What a scorer may look at besides the tokens.

    Attributes:
        policy_BN: 1 where a token is still alive; None if all of them are.
        positions_BN: Raster index of each token in the initial grid, -1 for a fused one; None for all positions in
            raster order.
        notes: What the last attention told.
        statistics: SPOT's statistics of the layers asked for, oldest first.
    """

    policy_BN: Tensor | None = None
    positions_BN: Tensor | None = None
    notes: Notes = NOTHING_NOTED
    statistics: tuple[LayerStatistics, ...] = ()


class TokenScorer(Protocol):
    """Scores tokens. Pure: equal arguments give equal scores."""

    def __call__(self, x_BNC: Tensor, seen: Seen) -> Tensor:
        """Scores of shape `B x N x 2`.

        Args:
            x_BNC: Tokens without prefix tokens.
            seen: What else there is to look at.
        """


class TokenNorm:
    """Control: the L2 norm of each token; larger is kept."""

    def __call__(self, x_BNC: Tensor, seen: Seen) -> Tensor:
        """The norm in column 0, zero in column 1."""
        return _against_zero(x_BNC.detach().float().norm(dim=-1))


class KeyNorm:
    """Control: the norm of each token's key; larger is kept."""

    def __call__(self, x_BNC: Tensor, seen: Seen) -> Tensor:
        """The norm in column 0, zero in column 1."""
        norm_BN = seen.notes.key_norm_BN
        assert norm_BN is not None, "the last attention was not asked"
        return _against_zero(norm_BN.detach())


class ClassAttention:
    """How much the class token attends to each token; larger is kept (EViT, arXiv:2202.07800, section 3.2)."""

    def __call__(self, x_BNC: Tensor, seen: Seen) -> Tensor:
        """The attention in column 0, zero in column 1."""
        row_BN = seen.notes.class_row_BN
        assert row_BN is not None, "the last attention was not asked"
        return _against_zero(row_BN)


class FixedRandomOrder:
    """Control: a pseudo-random order of the grid positions, the same for every image; a fused token comes last.

    Args:
        num_tokens: Positions of the initial grid.
        seed: Seed of the order.
    """

    def __init__(self, num_tokens: int, *, seed: int) -> None:
        order_N = torch.randperm(num_tokens, generator=torch.Generator().manual_seed(seed), device="cpu")
        self.rank_N = order_N.to(torch.float32)

    def __call__(self, x_BNC: Tensor, seen: Seen) -> Tensor:
        """The rank of each token's position in column 0, zero in column 1."""
        rank_N = self.rank_N.to(x_BNC.device)
        if seen.positions_BN is not None:
            rank_BN = torch.cat((rank_N, rank_N.new_full((1,), -1.0)))[seen.positions_BN]
        elif x_BNC.shape[1] == rank_N.shape[0]:
            rank_BN = rank_N.expand(x_BNC.shape[0], -1)
        else:
            raise ShapeError(f"{x_BNC.shape[1]} of {rank_N.shape[0]} tokens are left; their positions are needed")
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
    """A predictor head whose initial weights depend on `seed` and on its place only, not on what was built before.

    Args:
        scorer: What to build.
        dim: Channels of the tokens.
        name: Its place in the model, for example `0_3`.
        seed: Seed of the initial weights.
        num_statistics: Numbers that SPOT reads beside each token, over its layers and heads.
        has_class_token: Whether the backbone has one (SPOT).
        eps: Of the layer norm.
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
    """A scorer without parameters.

    Args:
        scorer: What to build.
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
