"""The order at a rung: against fronts and distances worked out by hand, and against a plain definition of both."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsesearch.analysis.pareto import Point
from sparsesearch.search.rung_ranking import goes_on, promising_order

POINTS = st.lists(
    st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.9]), st.sampled_from([1.0, 2.0, 3.0, 5.0, 8.0])),
    min_size=1,
    max_size=14,
)


def dominates(one: Point, other: Point) -> bool:
    return one[0] >= other[0] and one[1] <= other[1] and one != other


def reference_order(points: list[Point]) -> list[int]:
    """By the definitions, point by point. Accuracies and costs must be different in all points."""
    extent = [max(p[axis] for p in points) - min(p[axis] for p in points) or 1.0 for axis in (0, 1)]

    def distance(i: int, j: int) -> float:
        return math.hypot(*((points[i][axis] - points[j][axis]) / extent[axis] for axis in (0, 1)))

    left, order = set(range(len(points))), []
    while left:
        front = {i for i in left if not any(dominates(points[j], points[i]) for j in left)}
        chosen = [max(front, key=lambda i: points[i][0])]
        while len(chosen) < len(front):
            rest = sorted(front - set(chosen), key=lambda i: -points[i][0])
            chosen.append(max(rest, key=lambda i: min(distance(i, j) for j in chosen)))
        order += chosen
        left -= front
    return order


def test_worked_out_by_hand() -> None:
    """Front: (0.9, 10), (0.8, 5), (0.75, 4), (0.5, 1); behind it (0.7, 6), and behind that (0.6, 9)."""
    points = [(0.6, 9.0), (0.8, 5.0), (0.5, 1.0), (0.7, 6.0), (0.9, 10.0), (0.75, 4.0)]
    # The most accurate; the cheapest, at distance sqrt(2); (0.8, 5) is 0.61 and 0.87 away, (0.75, 4) 0.76 and 0.71.
    assert promising_order(points) == [4, 2, 5, 1, 3, 0]


@given(POINTS)
def test_each_once_and_no_dominated_point_before_its_better(points: list[Point]) -> None:
    order = promising_order(points)
    assert sorted(order) == list(range(len(points)))
    place = {index: position for position, index in enumerate(order)}
    for i, one in enumerate(points):
        for j, other in enumerate(points):
            assert not dominates(one, other) or place[i] < place[j]


@given(POINTS, st.randoms(use_true_random=False))
def test_the_sequence_does_not_matter(points: list[Point], random: object) -> None:
    shuffled = list(points)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert [points[i] for i in promising_order(points)] == [shuffled[i] for i in promising_order(shuffled)]


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_the_definitions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    accuracies, costs = rng.random(40), rng.random(40) * 1e9
    points = [(float(a), float(c)) for a, c in zip(accuracies, costs, strict=True)]
    assert promising_order(points) == reference_order(points)


def test_of_n_the_best_part_goes_on_and_the_first_always() -> None:
    assert goes_on([], newest=(0.1, 9.0), factor=3)
    assert not goes_on([(0.5, 1.0)], newest=(0.1, 9.0), factor=3)
    assert goes_on([(0.5, 1.0)], newest=(0.6, 1.0), factor=3)
    assert goes_on([(0.5, 1.0), (0.6, 2.0), (0.7, 3.0)], newest=(0.4, 0.5), factor=2), "the cheapest is on the front"


def test_a_nan_is_the_worst() -> None:
    points = [(math.nan, 1.0), (0.1, 2.0), (0.2, 3.0)]
    assert promising_order(points)[-1] == 0 or promising_order(points).index(0) > 0
    assert not goes_on([(0.1, 2.0), (0.2, 3.0)], newest=(math.nan, 2.5), factor=2)


def test_a_cut_through_one_front_leaves_points_over_the_whole_of_it() -> None:
    front = [(0.1 * i, float(i)) for i in range(1, 10)]
    best = {front[i] for i in promising_order(front)[:3]}
    assert best == {front[0], front[4], front[8]}
