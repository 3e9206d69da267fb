"""Axes: places, and round values that can be told apart."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsesearch.report.scales import Scale, tick_texts


def test_places() -> None:
    axis = Scale(0.0, 10.0, 100.0, 0.0)
    assert [axis(value) for value in (0.0, 2.5, 10.0)] == [100.0, 75.0, 0.0]


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (94.1, 95.4, ["94.5", "95.0"]),
        (94.1, 94.9, ["94.2", "94.4", "94.6", "94.8"]),
        (-0.6, 0.9, ["-0.5", "0.0", "0.5"]),
        (0.0041, 0.0098, ["0.004", "0.006", "0.008"][1:]),
        (3.0, 62.0, ["20", "40", "60"]),
    ],
)
def test_ticks_are_round(low: float, high: float, texts: list[str]) -> None:
    assert tick_texts(Scale(low, high, 0.0, 1.0).ticks(5)) == texts


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 12))
def test_ticks_lie_inside_and_differ(low: float, extent: float, count: int) -> None:
    axis = Scale(low, low + extent, 0.0, 100.0)
    if axis.high - axis.low < 1e-9 * max(1.0, abs(low)):
        return
    ticks = axis.ticks(count)
    assert len(ticks) <= count + 1
    for tick in ticks:
        assert axis.low - 1e-6 * extent <= tick <= axis.high + 1e-6 * extent


@pytest.mark.parametrize("values", [[], [5.0], [0.0], [math.nan, 3.0], [math.inf]])
def test_any_values_make_an_axis(values: list[float]) -> None:
    axis = Scale.over(values, start=0.0, end=10.0)
    assert axis.low < axis.high
    assert math.isfinite(axis(0.5))
    assert axis.ticks(4)


def test_no_negative_zero() -> None:
    assert tick_texts([-0.5, -0.0, 0.5]) == ["-0.5", "0.0", "0.5"]
