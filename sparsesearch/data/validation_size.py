"""The number of validation images of an evaluation, and the standard error that it leaves."""

from __future__ import annotations

import math

from sparsesearch.study.spec import DataSpec

_ACCURACY = 0.8
_STANDARD_ERROR = 0.003


def num_val_images(spec: DataSpec, *, available: int) -> int:
    """Images of an evaluation: as many as requested, or enough for a standard error of 0.3 points at 80 % accuracy.

    Args:
        spec: The data.
        available: The most that there are.
    """
    enough = math.ceil(_ACCURACY * (1 - _ACCURACY) / _STANDARD_ERROR**2)
    return min(spec.num_val_images or enough, available)


def num_more_images(num_ranking: int, num_val: int) -> int:
    """Images that rank the best candidates once more: those left, at most as many as have ranked them all.

    Args:
        num_ranking: Images that may rank candidates.
        num_val: Those that rank all of them.
    """
    return max(0, min(num_val, num_ranking - num_val))


def standard_error(num_images: int) -> float:
    """Standard error of an accuracy of 80 % on so many images, as a fraction.

    Differences between schedules, which all see the same images, have smaller errors.
    """
    return math.sqrt(_ACCURACY * (1 - _ACCURACY) / num_images)
