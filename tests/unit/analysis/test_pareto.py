import math

import pytest

from sparsesearch.analysis.pareto import hypervolume, pareto_front


def test_front_is_cheapest_first():
    points = [(0.9, 3.0), (0.8, 1.0), (0.7, 2.0), (0.95, 5.0), (0.8, 4.0)]
    assert pareto_front(points) == [1, 0, 3]


def test_of_equal_points_the_first_stays():
    assert pareto_front([(0.5, 1.0), (0.5, 1.0), (0.5, 2.0), (0.4, 1.0)]) == [0]


def test_nan_is_never_on_the_front():
    assert pareto_front([(math.nan, 1.0), (0.5, math.nan), (0.1, 9.0)]) == [2]
    assert pareto_front([]) == []


def test_hypervolume_of_two_steps_by_hand():
    points = [(0.8, 1.0), (0.9, 3.0)]
    assert hypervolume(points, reference=(0.5, 4.0)) == pytest.approx(0.3 * 3.0 + 0.1 * 1.0)


def test_points_outside_the_reference_add_nothing():
    inside = [(0.8, 1.0)]
    outside = [(0.5, 0.1), (0.4, 0.1), (0.99, 4.0), (math.nan, 1.0)]
    assert hypervolume(inside + outside, reference=(0.5, 4.0)) == hypervolume(inside, reference=(0.5, 4.0))
    assert hypervolume(outside, reference=(0.5, 4.0)) == 0.0


def test_the_reference_must_be_finite():
    with pytest.raises(ValueError, match="finite"):
        hypervolume([(0.5, 1.0)], reference=(0.0, math.inf))
