import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import geometries, shapes, spaces

from sparsesearch.budget.solve import fit_to_budget, least_cost
from sparsesearch.schedule import num_kept
from sparsesearch.space.encoding import decode, encode, parameters
from sparsesearch.space.sampling import MIN_WEIGHT, distinct_positions, draw_shape, mutate_shape


def inside(shape, space):
    return (
        {(0, block) for block in shape.blocks} <= set(space.locations)
        and space.min_predictors <= len(shape.blocks) <= space.max_predictors
        and {step.method for step in shape.steps} <= set(space.methods)
        and all(MIN_WEIGHT <= weight <= 1.0 for weight in shape.weights)
    )


@given(st.data())
def test_every_vector_inside_the_bounds_is_a_shape_of_the_space(data):
    geometry = data.draw(geometries(min_depth=2))
    space = data.draw(spaces(geometry=geometry))
    params = {
        p.name: data.draw(st.floats(p.low, p.high) if p.kind == "float" else st.integers(int(p.low), int(p.high)))
        for p in parameters(space)
    }
    assert inside(decode(params, space=space), space)


@given(st.data())
def test_encode_decode_gives_the_same_blocks_and_weights(data):
    geometry = data.draw(geometries(min_depth=2, min_grid=2))
    space = data.draw(spaces(geometry=geometry))
    shape = data.draw(shapes(space=space))
    assume(
        num_kept(geometry.stages[0].num_tokens, space.ratio_limits(0)[0]) + len(shape.blocks)
        <= geometry.stages[0].num_tokens
    )
    least = least_cost(geometry, space, shape=shape)
    schedule = fit_to_budget(geometry, space, shape=shape, limit=data.draw(st.integers(least, 2 * least)))
    assume(schedule is not None)
    params = encode(schedule, geometry=geometry, space=space)
    bounds = {p.name: p for p in parameters(space)}
    assert set(params) == set(bounds)
    assert all(bounds[name].low <= value <= bounds[name].high for name, value in params.items())
    back = decode(params, space=space)
    assert [step.method for step in back.steps] == [step.method for step in shape.steps]
    assert back.blocks == shape.blocks
    counts = [geometry.stages[0].num_tokens, *(step.num_tokens for step in schedule.resolve(geometry))]
    drops = [math.log(before / after) for before, after in itertools.pairwise(counts)]
    expected = [max(MIN_WEIGHT, drop / max(drops)) for drop in drops]
    assert back.weights == pytest.approx(expected)


@given(st.data())
def test_draws_and_mutations_stay_inside(data):
    geometry = data.draw(geometries(min_depth=2))
    space = data.draw(spaces(geometry=geometry))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    last = len(space.locations) - space.min_predictors
    latest = data.draw(st.one_of(st.none(), st.integers(0, last)))
    shape = draw_shape(space, rng=rng, latest_first=latest)
    for _ in range(4):
        assert inside(shape, space)
        assert latest is None or space.locations.index((0, shape.blocks[0])) <= latest
        shape = mutate_shape(shape, space, rng=rng, latest_first=latest)


@given(st.data())
def test_places_are_distinct_rising_and_kept_where_already_so(data):
    num_locations = data.draw(st.integers(1, 12))
    wished = data.draw(st.lists(st.integers(-3, 14), min_size=1, max_size=num_locations))
    placed = distinct_positions(wished, num_locations=num_locations)
    assert len(placed) == len(wished)
    assert all(a < b for a, b in itertools.pairwise(placed))
    assert 0 <= placed[0] <= placed[-1] < num_locations
    assert distinct_positions(placed, num_locations=num_locations) == placed
