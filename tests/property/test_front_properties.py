import math

from hypothesis import given
from hypothesis import strategies as st

from sparsesearch.analysis.pareto import hypervolume, pareto_front

VALUES = st.one_of(st.integers(0, 6).map(float), st.just(math.nan))
POINTS = st.lists(st.tuples(VALUES, VALUES), max_size=12)
REFERENCE = (1.0, 5.0)


def dominates(a, b):
    return a[0] >= b[0] and a[1] <= b[1] and a != b


@given(POINTS)
def test_front_is_exactly_what_nothing_dominates(points):
    front = pareto_front(points)
    valid = [i for i, p in enumerate(points) if not math.isnan(p[0]) and not math.isnan(p[1])]
    free = [i for i in valid if not any(dominates(points[j], points[i]) for j in valid)]
    first = [i for i in free if not any(points[j] == points[i] for j in free if j < i)]
    assert sorted(front) == first
    assert [points[i][1] for i in front] == sorted(points[i][1] for i in front)


@given(POINTS, st.tuples(VALUES, VALUES))
def test_adding_a_point_never_lowers_the_hypervolume(points, point):
    before = hypervolume(points, reference=REFERENCE)
    assert 0.0 <= before <= hypervolume([*points, point], reference=REFERENCE)


@given(POINTS)
def test_only_the_front_counts_and_unit_squares_add_up(points):
    total = hypervolume(points, reference=REFERENCE)
    assert total == hypervolume([points[i] for i in pareto_front(points)], reference=REFERENCE)
    squares = sum(any(p[0] >= a + 1 and p[1] <= m for p in points) for a in range(1, 6) for m in range(0, 5))
    assert math.isclose(total, squares)
