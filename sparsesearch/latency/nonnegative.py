"""Non-negative least squares, using only numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TOLERANCE = 1e-10


def solve_nonnegative(design_RC: NDArray[np.float64], target_R: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minimise `|design @ x - target|` subject to `x >= 0`.

    Args:
        design_RC: Rows are equations, columns unknowns; of full rank (add a ridge), with columns of similar scale.
        target_R: Right-hand side.

    Source: the active-set method of Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23.
    """
    gram = design_RC.T @ design_RC
    moment = design_RC.T @ target_R
    num = design_RC.shape[1]
    free = np.zeros(num, dtype=bool)
    x = np.zeros(num)
    least = _TOLERANCE * max(1.0, float(np.abs(moment).max(initial=0.0)))
    for _ in range(10 * num):
        slope = moment - gram @ x
        slope[free] = -np.inf
        best = int(np.argmax(slope))
        if slope[best] <= least:
            break
        free[best] = True
        while True:
            solution = np.zeros(num)
            solution[free] = np.linalg.solve(gram[np.ix_(free, free)], moment[free])
            negative = free & (solution <= 0.0)
            if not negative.any():
                x = solution
                break
            step = float(np.min(x[negative] / (x[negative] - solution[negative])))
            x = x + step * (solution - x)
            free &= x > _TOLERANCE
            x[~free] = 0.0
            if not free.any():
                break
    return x
