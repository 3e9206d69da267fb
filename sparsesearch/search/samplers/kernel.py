"""The kernel of the accuracy predictor: schedules that treat tokens alike have similar accuracy.

Shapes: `N` observations, `P` points, `F` features.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sparsesearch.search.samplers.arrays import Floats, Ints

_OFFSET = 4.0  # variance of the constant offset of another study, relative to that of the smooth part


class Observations(NamedTuple):
    """The observations that a predictor is fitted to.

    Attributes:
        x_NF: Features.
        y_N: Accuracies on the scale of `predictor.on_error_scale`.
        source_N: 0 for this study, another number for every other study.
    """

    x_NF: Floats
    y_N: Floats
    source_N: Ints

    @property
    def has_others(self) -> bool:
        """Whether any observation is of another study."""
        return bool(self.source_N.any())

    def centred(self) -> Floats:
        """Accuracies minus the mean of their source."""
        y_N: Floats = self.y_N.astype(np.float64)
        for source in np.unique(self.source_N):
            of_source = self.source_N == source
            y_N[of_source] -= y_N[of_source].mean()
        return y_N


class Settings(NamedTuple):
    """Hyperparameters of the predictor; variances are relative to that of its smooth part.

    Attributes:
        length: Length scale.
        noise: Variance of the noise of an observation.
        linear: Variance of the linear part.
        strangeness: Extra variance of an observation of another study, besides its constant offset.
        smoothness: Smoothness of the Matern kernel, 1.5 or 2.5.
        weights_F: Factors of the features.
        scale: Mean squared distance of observations from their centre, with weighted features.
    """

    length: float
    noise: float
    linear: float
    strangeness: float
    smoothness: float
    weights_F: Floats
    scale: float


class Kernel:
    """Covariances of accuracies, in units of the variance of the smooth part: Matern plus linear.

    Points must be `weighted` before they are compared, which drops features of weight 0.

    Args:
        x_NF: Features of the observations; the linear part is centred at their mean.
        settings: The hyperparameters.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), section 4.2.
    """

    def __init__(self, x_NF: Floats, settings: Settings) -> None:
        self._settings = settings
        self._columns = np.flatnonzero(settings.weights_F)
        self._weights = settings.weights_F[self._columns]
        self._linear = settings.linear / settings.scale
        self._centre = self.weighted(x_NF).mean(axis=0)

    def weighted(self, x_PF: Floats) -> Floats:
        """Weighted features, without those of weight 0."""
        weighted: Floats = x_PF[:, self._columns] * self._weights
        return weighted

    def between(self, a: Floats, b: Floats) -> Floats:
        """Covariances between two sets of points, both weighted."""
        cov = matern(distances(a, b) / self._settings.length, self._settings.smoothness)
        if self._linear:
            cov += self._linear * ((a - self._centre) @ (b - self._centre).T)
        return cov

    def variances(self, a: Floats) -> Floats:
        """Variances of weighted points."""
        variances: Floats = 1.0 + self._linear * ((a - self._centre) ** 2).sum(axis=1)
        return variances

    def of_noise(self, known: Observations) -> Floats:
        """Covariances `N x N` of noise and of the differences of other studies."""
        foreign_N = known.source_N > 0
        extra_NN = np.diag(self._settings.noise + self._settings.strangeness * foreign_N)
        if known.has_others:
            same_NN = (known.source_N[:, None] == known.source_N) & foreign_N
            extra_NN = extra_NN + _OFFSET * same_NN
        return extra_NN


def distances(a: Floats, b: Floats) -> Floats:
    """Euclidean distances between two sets of points."""
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2.0 * (a @ b.T)
    found: Floats = np.sqrt(np.maximum(squares, 0.0))
    return found


def matern(ratio: Floats, smoothness: float) -> Floats:
    """Matern kernel of smoothness 1.5 or 2.5, of distances in units of its length scale."""
    scaled = math.sqrt(2.0 * smoothness) * ratio
    polynomial = 1.0 + scaled if smoothness == 1.5 else 1.0 + scaled + scaled**2 / 3.0
    covariance: Floats = polynomial * np.exp(-scaled)
    return covariance
