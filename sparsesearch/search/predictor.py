"""A light predictor of accuracy: a Gaussian process with a linear part, and what it is not sure about.

Shapes: `N` observations, `P` points, `F` features.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

from sparsesearch.search.arrays import Floats, Ints

_LENGTHS = (0.3, 0.6, 1.2, 2.4, 4.8)  # of the median distance between observations
_NOISES = (1e-4, 1e-2, 1e-1, 1.0)  # variance of the noise, of that of the smooth part
_LINEARS = (0.0, 3.0)  # variance of the linear part, likewise
_STRANGENESS = (1e-2, 1e-1, 1.0)  # variance by which an observation of another study may differ, likewise
_OFFSET = 4.0  # variance of the constant by which all observations of another study differ, likewise
_LEAST_ERROR = 1e-3  # errors below are not told apart


class Observations(NamedTuple):
    """What is known.

    Attributes:
        x_NF: Features.
        y_N: Accuracies, as `on_error_scale` has them.
        source_N: 0 for this study, another number for each other study.
    """

    x_NF: Floats
    y_N: Floats
    source_N: Ints

    @property
    def has_others(self) -> bool:
        """Whether any are of another study."""
        return bool(self.source_N.any())


class Settings(NamedTuple):
    """How the predictor generalises; variances are shares of that of its smooth part.

    Attributes:
        length: Distance over which accuracies are alike.
        noise: Variance of the noise of an observation.
        linear: Variance of the linear part.
        strangeness: Variance by which an observation of another study may differ, its constant apart.
        scale: Mean squared distance of observations from their centre.
    """

    length: float
    noise: float
    linear: float
    strangeness: float
    scale: float


def on_error_scale(top1_N: Floats) -> Floats:
    """Accuracies as negative logarithms of the error: what is learned and compared.

    Errors of the cheapest schedules are many times those of good ones, which differ by percents of theirs; a process
    of one scale, told plain accuracies, sees the former only.
    """
    scaled_N: Floats = -np.log(np.maximum(1.0 - top1_N, _LEAST_ERROR))
    return scaled_N


def choose_settings(known: Observations) -> Settings:
    """The most likely settings of a small grid (type II maximum likelihood).

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), section 5.4.1.
    """
    distance_NN = _distances(known.x_NF, known.x_NF)
    apart = distance_NN[distance_NN > 0.0]
    median = float(np.median(apart)) if len(apart) else 1.0
    centred_NF = known.x_NF - known.x_NF.mean(axis=0)
    scale = max(1e-12, float((centred_NF**2).sum(axis=1).mean()))
    y_N = _centred(known)
    best, chosen = -math.inf, Settings(median, _NOISES[1], 0.0, 0.0, scale)
    strange = _STRANGENESS if known.has_others else (0.0,)
    for length in _LENGTHS:
        smooth_NN = _matern(distance_NN / (length * median))
        for noise, linear, strangeness in itertools.product(_NOISES, _LINEARS, strange):
            tried = Settings(length * median, noise, linear, strangeness, scale)
            cov_NN = smooth_NN + (linear / scale) * (centred_NF @ centred_NF.T)
            likelihood = _likelihood(cov_NN + _extra(known, tried), y_N)
            if likelihood > best + 1e-9:
                best, chosen = likelihood, tried
    return chosen


class Predictor:
    """What the accuracy of schedules of this study would be that were not evaluated: mean and deviation.

    Accuracies are on the scale of `on_error_scale` throughout.

    Args:
        known: At least one observation of this study.
        settings: How it generalises.
        pending_PF: Features of schedules whose results are under way; they make nothing known but their neighbourhood
            less uncertain.

    Attributes:
        known_mean_N: Expected accuracies where the observations are: those less their noise.

    Source: Rasmussen and Williams (2006), section 2.2; kernel: Matern 5/2 and linear.
    """

    def __init__(self, known: Observations, settings: Settings, *, pending_PF: Floats | None = None) -> None:
        self._settings = settings
        self._known_NF = known.x_NF
        self._centre_F = known.x_NF.mean(axis=0)
        self._level = float(known.y_N[known.source_N == 0].mean())
        y_N = _centred(known)
        extra_NN = _extra(known, settings)
        cov_NN = self._covariance(known.x_NF, known.x_NF) + extra_NN
        self._weights_N = np.linalg.solve(cov_NN, y_N)
        self.known_mean_N: Floats = self._level + y_N - extra_NN @ self._weights_N
        self._amplitude = math.sqrt(max(float(y_N @ self._weights_N) / len(y_N), 1e-12))
        self._seen_NF = known.x_NF
        if pending_PF is not None and len(pending_PF):
            self._seen_NF = np.concatenate([known.x_NF, pending_PF])
            beside_NP = self._covariance(known.x_NF, pending_PF)
            own_PP = self._covariance(pending_PF, pending_PF) + settings.noise * np.eye(len(pending_PF))
            cov_NN = np.block([[cov_NN, beside_NP], [beside_NP.T, own_PP]])
        self._inverse_NN = np.linalg.inv(cov_NN)

    def mean(self, x_PF: Floats) -> Floats:
        """Expected accuracy of each point."""
        mean_P: Floats = self._level + self._covariance(x_PF, self._known_NF) @ self._weights_N
        return mean_P

    def predict(self, x_PF: Floats) -> tuple[Floats, Floats]:
        """Expected accuracy of each point and its standard deviation, noise of an evaluation not included."""
        cov_PN = self._covariance(x_PF, self._seen_NF)
        mean_P = self._level + cov_PN[:, : len(self._known_NF)] @ self._weights_N
        linear_P = self._settings.linear / self._settings.scale * ((x_PF - self._centre_F) ** 2).sum(axis=1)
        variance_P = 1.0 + linear_P - ((cov_PN @ self._inverse_NN) * cov_PN).sum(axis=1)
        return mean_P, self._amplitude * np.sqrt(np.maximum(variance_P, 1e-10))

    def _covariance(self, a_PF: Floats, b_NF: Floats) -> Floats:
        smooth_PN = _matern(_distances(a_PF, b_NF) / self._settings.length)
        if self._settings.linear:
            share = self._settings.linear / self._settings.scale
            smooth_PN += share * ((a_PF - self._centre_F) @ (b_NF - self._centre_F).T)
        return smooth_PN


def _centred(known: Observations) -> Floats:
    """Accuracies less the mean of their source."""
    y_N: Floats = known.y_N.astype(np.float64)
    for source in np.unique(known.source_N):
        of_source = known.source_N == source
        y_N[of_source] -= y_N[of_source].mean()
    return y_N


def _extra(known: Observations, settings: Settings) -> Floats:
    """Covariance of what is not the accuracy itself: noise, and how other studies differ."""
    foreign_N = known.source_N > 0
    extra_NN = np.diag(settings.noise + settings.strangeness * foreign_N)
    if known.has_others:
        same_NN = (known.source_N[:, None] == known.source_N) & foreign_N
        extra_NN = extra_NN + _OFFSET * same_NN
    return extra_NN


def _likelihood(cov_NN: Floats, y_N: Floats) -> float:
    """Logarithm of the likelihood, up to a constant, at the best amplitude."""
    try:
        lower_NN = np.linalg.cholesky(cov_NN)
    except np.linalg.LinAlgError:
        return -math.inf
    white_N = np.linalg.solve(lower_NN, y_N)
    amplitude = max(float(white_N @ white_N) / len(y_N), 1e-12)
    return -0.5 * len(y_N) * math.log(amplitude) - float(np.log(np.diag(lower_NN)).sum())


def _distances(a_PF: Floats, b_NF: Floats) -> Floats:
    squares_PN = (a_PF**2).sum(axis=1)[:, None] + (b_NF**2).sum(axis=1) - 2.0 * (a_PF @ b_NF.T)
    distance_PN: Floats = np.sqrt(np.maximum(squares_PN, 0.0))
    return distance_PN


def _matern(ratio: Floats) -> Floats:
    scaled = math.sqrt(5.0) * ratio
    smooth: Floats = (1.0 + scaled + scaled**2 / 3.0) * np.exp(-scaled)
    return smooth
