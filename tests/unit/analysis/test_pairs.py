"""Intervals of differences between two models on the same images."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparsesearch.analysis.pairs import difference_of_counts, paired_difference
from sparsesearch.study.hits import Hits


def test_interval_by_hand() -> None:
    """8 and 2 of 98 images differ: with half an image in each cell, 8.5 and 2.5 of 100."""
    found = difference_of_counts(8, 2, num_images=98)
    half = 1.959964 * math.sqrt((0.11 - 0.06**2) / 100)
    assert (found.value, found.low, found.high) == pytest.approx((6 / 98, 0.06 - half, 0.06 + half))
    assert found.low < 0.0 < difference_of_counts(12, 2, num_images=98).low
    assert difference_of_counts(2, 12, num_images=98).high < 0.0


def test_difference_of_hits() -> None:
    one, other = Hits.of([True, True, False, True], images="a"), Hits.of([True, False, True, False], images="a")
    found = paired_difference(one, other)
    assert found.value == 0.25
    assert paired_difference(other, one).low == pytest.approx(-found.high)


def test_equal_models_are_not_distinguishable() -> None:
    hits = Hits.of([True] * 50, images="a")
    found = paired_difference(hits, hits)
    assert found.low < 0.0 < found.high


def test_no_images_have_no_difference() -> None:
    with pytest.raises(ValueError, match="no images"):
        paired_difference(Hits.of([], images="a"), Hits.of([], images="a"))


@pytest.mark.parametrize(("better", "worse"), [(0.05, 0.05), (0.10, 0.06), (0.02, 0.01), (0.001, 0.001)])
def test_nineteen_of_twenty_intervals_contain_the_true_difference(better: float, worse: float) -> None:
    rng = np.random.default_rng(0)
    counts_RK = rng.multinomial(1000, [better, worse, 1.0 - better - worse], size=4000)
    intervals = [difference_of_counts(int(b), int(w), num_images=1000) for b, w, _ in counts_RK]
    covered = np.mean([found.low <= better - worse <= found.high for found in intervals])
    assert 0.94 <= covered <= 1.0
