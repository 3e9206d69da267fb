"""A light predictor of accuracy: a Gaussian process with a linear part, and what it is not sure about.

Shapes: `N` observations, `P` points, `F` features.
"""

from __future__ import annotations

import math

import numpy as np

from sparsesearch.search.samplers.arrays import Floats
from sparsesearch.search.samplers.kernel import Kernel, Observations, Settings

_LEAST_ERROR = 1e-3  # errors below are not told apart


def on_error_scale(top1_N: Floats) -> Floats:
    """Accuracies as negative logarithms of the error: what is learned and compared.

    Errors of the cheapest schedules are many times those of good ones, which differ by percents of theirs; a process
    of one scale, told plain accuracies, sees the former only.
    """
    scaled_N: Floats = -np.log(np.maximum(1.0 - top1_N, _LEAST_ERROR))
    return scaled_N


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

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), section 2.2.
    """

    def __init__(self, known: Observations, settings: Settings, *, pending_PF: Floats | None = None) -> None:
        self._kernel = Kernel(known.x_NF, settings)
        self._known = self._kernel.weighed(known.x_NF)
        self._level = float(known.y_N[known.source_N == 0].mean())
        y_N = known.centred()
        extra_NN = self._kernel.of_noise(known)
        cov_NN = self._kernel.between(self._known, self._known) + extra_NN
        self._weights_N = np.linalg.solve(cov_NN, y_N)
        self.known_mean_N: Floats = self._level + y_N - extra_NN @ self._weights_N
        self._amplitude = math.sqrt(max(float(y_N @ self._weights_N) / len(y_N), 1e-12))
        self._seen = self._known
        if pending_PF is not None and len(pending_PF):
            pending = self._kernel.weighed(pending_PF)
            self._seen = np.concatenate([self._known, pending])
            beside_NP = self._kernel.between(self._known, pending)
            own_PP = self._kernel.between(pending, pending) + settings.noise * np.eye(len(pending))
            cov_NN = np.block([[cov_NN, beside_NP], [beside_NP.T, own_PP]])
        self._inverse_NN = np.linalg.inv(cov_NN)

    def mean(self, x_PF: Floats) -> Floats:
        """Expected accuracy of each point."""
        cov_PN = self._kernel.between(self._kernel.weighed(x_PF), self._known)
        mean_P: Floats = self._level + cov_PN @ self._weights_N
        return mean_P

    def predict(self, x_PF: Floats) -> tuple[Floats, Floats]:
        """Expected accuracy of each point and its standard deviation, noise of an evaluation not included."""
        points = self._kernel.weighed(x_PF)
        cov_PN = self._kernel.between(points, self._seen)
        mean_P = self._level + cov_PN[:, : len(self._known)] @ self._weights_N
        variance_P = self._kernel.variances(points) - ((cov_PN @ self._inverse_NN) * cov_PN).sum(axis=1)
        return mean_P, self._amplitude * np.sqrt(np.maximum(variance_P, 1e-10))
