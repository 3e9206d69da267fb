"""Differences of accuracy between two models on the same images."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sparsesearch.study.hits import Hits

Z_95 = 1.959964
"""Half-width of a central 95 % interval of a normal distribution, in standard deviations."""


@dataclass(frozen=True)
class PairedDifference:
    """How much more accurate one model is than another on the same images.

    Only images that one of them classifies correctly and the other does not tell something about the difference, so its
    interval is much narrower than that of two independent samples.

    Attributes:
        value: Difference of the accuracies, as a fraction.
        low: Lower end of its 95 % confidence interval.
        high: Upper end.
        standard_error: Standard error of the difference.
    """

    value: float
    low: float
    high: float
    standard_error: float


def paired_difference(one: Hits, other: Hits) -> PairedDifference:
    """Return by how much `one` is more accurate than `other`.

    The interval is Agresti and Min's (Statistics in Medicine 24, 2005): Wald's, after adding half an image to each of
    the four cells of the table of pairs. It also holds where few images or none differ.

    Raises:
        ValueError: They are of different images, or of none.
    """
    if one.count == 0:
        raise ValueError("no images were evaluated, so there is no difference")
    better, worse = one.only_here(other), other.only_here(one)
    return difference_of_counts(better, worse, num_images=one.count)


def difference_of_counts(better: int, worse: int, *, num_images: int) -> PairedDifference:
    """Return the difference of two models by the number of images that only one of them classifies correctly.

    Args:
        better: Images that only the first one classifies correctly.
        worse: Images that only the second one classifies correctly.
        num_images: All images.
    """
    total = num_images + 2.0
    centre = (better - worse) / total
    standard_error = math.sqrt((better + worse + 1.0) / total - centre**2) / math.sqrt(total)
    return PairedDifference(
        value=(better - worse) / num_images,
        low=max(-1.0, centre - Z_95 * standard_error),
        high=min(1.0, centre + Z_95 * standard_error),
        standard_error=standard_error,
    )
