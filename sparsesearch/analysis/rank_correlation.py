"""Rank correlations: Kendall's tau-b and Spearman's rho."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's tau-b: concordant minus discordant pairs, divided by all pairs, corrected for ties.

    Args:
        first: Finite values.
        second: Finite values, as many as in `first`.

    Returns:
        A value in [-1, 1]; None if there are fewer than two values, or all values of one side are equal.

    Source: Kendall 1945, The treatment of ties in ranking problems.
    """
    signs = []
    for values in (first, second):
        row = np.asarray(values, dtype=np.float64)
        signs.append(np.sign(row[:, None] - row[None, :])[np.triu_indices(len(row), k=1)])
    if len(first) != len(second):
        raise ValueError(
            f"the sequences differ in length: {len(first)} and {len(second)}; give one value of each per pair"
        )
    scale = float(np.abs(signs[0]).sum()) * float(np.abs(signs[1]).sum())
    return float((signs[0] * signs[1]).sum()) / float(np.sqrt(scale)) if scale else None


def spearman_rho(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rho: the linear correlation of the ranks; tied values get the mean of their ranks.

    Args:
        first: Finite values.
        second: Finite values, as many as in `first`.

    Returns:
        A value in [-1, 1]; None if there are fewer than two values, or all values of one side are equal.
    """
    if len(first) != len(second):
        raise ValueError(
            f"the sequences differ in length: {len(first)} and {len(second)}; give one value of each per pair"
        )
    if len(first) < 2:
        return None
    one, other = (ranks - ranks.mean() for ranks in (_mean_ranks(first), _mean_ranks(second)))
    scale = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / scale if scale else None


def _mean_ranks(values: ArrayLike) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2.0)[inverse.reshape(-1)]
    return ranks
