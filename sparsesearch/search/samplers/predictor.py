"""The accuracy predictor: a Gaussian process with a linear part.

Shapes: `N` observations, `P` points, `F` features.
"""

from __future__ import annotations

import math

import numpy as np

from sparsesearch.search.samplers.arrays import Floats
from sparsesearch.search.samplers.kernel import Kernel, Observations, Settings

_MIN_ERROR = 1e-3  # smaller errors are clipped


def on_error_scale(top1_N: Floats) -> Floats:
    """Accuracies as negative logarithms of the error, the scale of the predictor.

    The errors of the cheapest schedules are many times those of good ones, which differ by a few percent only; on the
    accuracy scale, a process with one length scale would resolve the former only.
    """
    scaled_N: Floats = -np.log(np.maximum(1.0 - top1_N, _MIN_ERROR))
    return scaled_N


class Predictor:
    """Predicts mean and standard deviation of the accuracy of schedules of this study.

    Accuracies are on the scale of `on_error_scale`.

    Args:
        known: Observations, at least one of this study.
        settings: The hyperparameters.
        pending_PF: Features of schedules with pending results; they reduce the uncertainty in their neighbourhood only.

    Attributes:
        known_mean_N: Expected accuracies at the observations, without noise.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), section 2.2.
    """

    def __init__(self, known: Observations, settings: Settings, *, pending_PF: Floats | None = None) -> None:
        self._kernel = Kernel(known.x_NF, settings)
        self._known = self._kernel.weighted(known.x_NF)
        self._level = float(known.y_N[known.source_N == 0].mean())
        y_N = known.centred()
        extra_NN = self._kernel.of_noise(known)
        cov_NN = self._kernel.between(self._known, self._known) + extra_NN
        self._weights_N = np.linalg.solve(cov_NN, y_N)
        self.known_mean_N: Floats = self._level + y_N - extra_NN @ self._weights_N
        self._amplitude = math.sqrt(max(float(y_N @ self._weights_N) / len(y_N), 1e-12))
        self._seen = self._known
        if pending_PF is not None and len(pending_PF):
            pending = self._kernel.weighted(pending_PF)
            self._seen = np.concatenate([self._known, pending])
            cross_NP = self._kernel.between(self._known, pending)
            own_PP = self._kernel.between(pending, pending) + settings.noise * np.eye(len(pending))
            cov_NN = np.block([[cov_NN, cross_NP], [cross_NP.T, own_PP]])
        self._inverse_NN = np.linalg.inv(cov_NN)

    def mean(self, x_PF: Floats) -> Floats:
        """Expected accuracy of each point."""
        cov_PN = self._kernel.between(self._kernel.weighted(x_PF), self._known)
        mean_P: Floats = self._level + cov_PN @ self._weights_N
        return mean_P

    def predict(self, x_PF: Floats) -> tuple[Floats, Floats]:
        """Expected accuracy of each point and its standard deviation, without the noise of an evaluation."""
        points = self._kernel.weighted(x_PF)
        cov_PN = self._kernel.between(points, self._seen)
        mean_P = self._level + cov_PN[:, : len(self._known)] @ self._weights_N
        variance_P = self._kernel.variances(points) - ((cov_PN @ self._inverse_NN) * cov_PN).sum(axis=1)
        return mean_P, self._amplitude * np.sqrt(np.maximum(variance_P, 1e-10))
