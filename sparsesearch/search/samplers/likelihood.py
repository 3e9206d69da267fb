"""Hyperparameters of the accuracy predictor by maximum marginal likelihood.

Shapes: `N` observations, `F` features.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sparsesearch.search.samplers.arrays import Floats
from sparsesearch.search.samplers.kernel import Kernel, Observations, Settings, distances
from sparsesearch.search.samplers.steps import Columns

_SWEEPS = 2


class _Choice(NamedTuple):
    """A point of the grid; `length` is relative to the median distance of observations, others as in `Settings`."""

    length: float = 2.4
    noise: float = 1e-2
    linear: float = 0.0
    strangeness: float = 0.0
    smoothness: float = 1.5
    decay: float = 1.0
    drops: float = 0.3


_GRID = {
    "length": (0.3, 0.6, 1.2, 2.4, 4.8),
    "noise": (1e-4, 1e-2, 1e-1, 1.0),
    "linear": (0.0, 3.0),
    "smoothness": (1.5, 2.5),
}
_OF_FEATURES = {"decay": (0.0, 1.0, 2.0), "drops": (0.0, 0.3, 1.0)}
_OF_OTHERS = {"strangeness": (1e-2, 1e-1, 1.0)}


def choose_settings(known: Observations, columns: Columns | None = None) -> Settings:
    """The most likely hyperparameters of a grid, by coordinate ascent (type II maximum likelihood).

    Args:
        known: Observations.
        columns: Kinds of their features; None to weight all features equally.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), section 5.4.1.
    """
    y_N = known.centred()
    axes = _GRID | (_OF_FEATURES if columns is not None else {}) | (_OF_OTHERS if known.has_others else {})
    choice = _Choice(strangeness=_OF_OTHERS["strangeness"][1] if known.has_others else 0.0)
    chosen = _settings(choice, known.x_NF, columns)
    best = _likelihood(known, y_N, chosen)
    for _ in range(_SWEEPS):
        before = choice
        for axis, values in axes.items():
            for value in values:
                tried = choice._replace(**{axis: value})
                if tried == choice:
                    continue
                settings = _settings(tried, known.x_NF, columns)
                likelihood = _likelihood(known, y_N, settings)
                if likelihood > best + 1e-9:
                    best, choice, chosen = likelihood, tried, settings
        if choice == before:
            break
    return chosen


def _settings(choice: _Choice, x_NF: Floats, columns: Columns | None) -> Settings:
    """The hyperparameters of a point of the grid for these observations."""
    weights_F = np.ones(x_NF.shape[1])
    if columns is not None:
        weights_F = columns.weights(decay=choice.decay, drops=choice.drops)
    weighted_NF = x_NF * weights_F
    distance_NN = distances(weighted_NF, weighted_NF)
    apart = distance_NN[distance_NN > 0.0]
    median = float(np.median(apart)) if len(apart) else 1.0
    return Settings(
        length=choice.length * median,
        noise=choice.noise,
        linear=choice.linear,
        strangeness=choice.strangeness,
        smoothness=choice.smoothness,
        weights_F=weights_F,
        scale=max(1e-12, float(((weighted_NF - weighted_NF.mean(axis=0)) ** 2).sum(axis=1).mean())),
    )


def _likelihood(known: Observations, y_N: Floats, settings: Settings) -> float:
    """Log likelihood, up to a constant, at the best amplitude."""
    kernel = Kernel(known.x_NF, settings)
    weighted = kernel.weighted(known.x_NF)
    try:
        lower_NN = np.linalg.cholesky(kernel.between(weighted, weighted) + kernel.of_noise(known))
    except np.linalg.LinAlgError:
        return -math.inf
    white_N = np.linalg.solve(lower_NN, y_N)
    amplitude = max(float(white_N @ white_N) / len(y_N), 1e-12)
    return -0.5 * len(y_N) * math.log(amplitude) - float(np.log(np.diag(lower_NN)).sum())
