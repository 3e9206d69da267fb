"""Spaces, prices and proposals of every family, method and phase."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import families, full_shapes, full_spaces

from sparsesearch.budget.feasible import attainable, first_location_floors, ranges
from sparsesearch.budget.lattice import CountLattice
from sparsesearch.budget.solve import WORTHWHILE, check_feasible, fit_to_budget
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.cost.separable import MACS
from sparsesearch.errors import BudgetError
from sparsesearch.schedule import num_kept
from sparsesearch.schedule.methods import Merge
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.encoding import decode, encode, outside, parameters
from sparsesearch.space.fitting import read_explicit
from sparsesearch.space.shape import LocatedMethod, Shape


def macs(geometry, schedule):
    return AnalyticCost().estimate(geometry, schedule).macs


@settings(max_examples=300)
@given(st.data())
def test_tables_add_up_to_the_closed_form_to_the_integer(data):
    geometry = data.draw(families())
    space = data.draw(full_spaces(geometry=geometry))
    shape = data.draw(full_shapes(space=space))
    lattice = CountLattice(geometry, space, shape=shape)
    assume(lattice.exists)
    counts = lattice.counts(
        data.draw(st.lists(st.floats(0.0, 1.0), min_size=len(shape.steps), max_size=len(shape.steps)))
    )
    base, tables = MACS.tables(geometry, shape.steps)
    expected = macs(geometry, lattice.schedule(counts))
    assert base + sum(int(table[count]) for table, count in zip(tables, counts, strict=True)) == expected
    assert all(table.dtype == np.int64 and (np.diff(table) >= 0).all() for table in tables)
    assert MACS.tables(geometry, ()) == (
        AnalyticCost().estimate(geometry, shape.schedule([1.0] * len(counts))).macs,
        (),
    )


@settings(max_examples=200)
@given(st.data())
def test_shapes_stay_inside_and_every_vector_decodes(data):
    geometry = data.draw(families())
    space = data.draw(full_spaces(geometry=geometry))
    explicit = SearchSpace.of(space, geometry)
    assert explicit.resolve(geometry) == read_explicit(explicit) == space
    assert outside(data.draw(full_shapes(space=space)), space) is None
    params = {
        p.name: data.draw(st.floats(p.low, p.high) if p.kind == "float" else st.integers(int(p.low), int(p.high)))
        for p in parameters(space)
    }
    shape = decode(params, space=space)
    assert outside(shape, space) is None
    assert shape.canonical().weights == pytest.approx(shape.weights)


@settings(max_examples=200)
@given(st.data())
def test_fits_are_valid_maximal_and_their_parameters_stable(data):
    geometry = data.draw(families())
    space = data.draw(full_spaces(geometry=geometry))
    shape = data.draw(full_shapes(space=space))
    lattice = CountLattice(geometry, space, shape=shape)
    assume(lattice.exists)
    least, most = lattice.cost(lattice.lowest), lattice.cost(lattice.highest)
    limit = data.draw(st.integers(least - 1, int(1.1 * most) + 1))
    schedule = fit_to_budget(geometry, space, shape=shape, limit=limit)
    if schedule is None:
        assert limit < least or most < WORTHWHILE * limit
        return
    steps = schedule.resolve(geometry)
    counts = [step.num_tokens for step in steps]
    assert macs(geometry, schedule) <= limit
    assert schedule == schedule.canonical(geometry)
    assert [(step.stage, step.block, step.phase) for step in steps] == [
        (step.stage, step.block, step.phase) for step in shape.steps
    ]
    for step, count in zip(shape.steps, counts, strict=True):
        low, high = space.ratio_limits(step.stage)
        num_tokens = geometry.stages[step.stage].num_tokens
        assert num_kept(num_tokens, low) <= count <= num_kept(num_tokens, high)
    assert is_allowed(geometry, space, shape, counts)
    for step in range(len(counts)):
        more = [*counts[:step], counts[step] + 1, *counts[step + 1 :]]
        if is_allowed(geometry, space, shape, more):
            assert lattice.cost(more) > limit
    params = encode(schedule, geometry=geometry, space=space)
    bounds = {p.name: p for p in parameters(space)}
    assert set(params) == set(bounds)
    assert all(bounds[name].low <= value <= bounds[name].high for name, value in params.items())
    back = decode(params, space=space)
    assert [step.model_copy(update={"weight": 1.0}) for step in back.steps] == [
        step.model_copy(update={"weight": 1.0}) for step in shape.steps
    ]


def is_allowed(geometry, space, shape, counts):
    before = {}
    for step, count in zip(shape.steps, counts, strict=True):
        num_tokens = geometry.stages[step.stage].num_tokens
        arrive = before.get(step.stage, num_tokens)
        if count > num_kept(num_tokens, space.ratio_limits(step.stage)[1]) or count >= num_tokens:
            return False
        if shape.monotone and count >= arrive:
            return False
        if isinstance(step.reducer, Merge) and count < (arrive + 1) // 2:
            return False
        before[step.stage] = count
    return True


@settings(max_examples=60)
@given(st.data())
def test_the_attainable_interval_is_that_of_every_shape(data):
    geometry = data.draw(families())
    space = data.draw(full_spaces(geometry=geometry, max_locations=3))
    assume(len(space.locations) <= 6)
    assume(len(space.methods) <= 4)
    assume(space.merge is None)
    lows, firsts, highs = [], {}, []
    for num in range(space.min_predictors, space.max_predictors + 1):
        for places in itertools.combinations(range(len(space.locations)), num):
            for methods in itertools.product(space.methods, repeat=num):
                placed = [LocatedMethod(space.locations[i], m, 1.0) for i, m in zip(places, methods, strict=True)]
                if not all(m.is_possible_at(p) for p, m, *_ in placed):
                    continue
                monotone = space.monotone or geometry.stages[0].mixer == "attention"
                shape = Shape.of_methods(placed, monotone=monotone)
                if outside(shape, space) is not None:
                    continue
                lattice = CountLattice(geometry, space, shape=shape)
                if lattice.exists:
                    lows.append(lattice.cost(lattice.lowest))
                    highs.append(lattice.cost(lattice.highest))
                    firsts[places[0]] = min(lows[-1], firsts.get(places[0], lows[-1]))
    if not lows:
        with pytest.raises(BudgetError, match="no schedule fits"):
            attainable(geometry, space)
        return
    least, most = attainable(geometry, space)
    reads_all = any(getattr(m.scorer, "layers", None) == "all" for m in space.methods)
    if not reads_all:
        assert (least, most) == (min(lows), max(highs))
        floors = first_location_floors(geometry, space)
        for place, floor in enumerate(floors):
            assert floor == min(cost for first, cost in firsts.items() if first >= place)
    assert min(lows) <= least <= 1.01 * min(lows)
    assert 0.99 * max(highs) <= most <= max(highs)


@settings(max_examples=60)
@given(st.data())
def test_a_feasible_budget_is_met_by_a_shape_of_the_space(data):
    geometry = data.draw(families())
    space = data.draw(full_spaces(geometry=geometry))
    try:
        low, high = attainable(geometry, space)
        limit = data.draw(st.integers(low, high))
        check_feasible(geometry, space, limit=limit)
    except BudgetError:
        return
    shapes = [one.shape for one in ranges(geometry, space) if one.low <= limit]
    found = [fit_to_budget(geometry, space, shape=shape, limit=limit) for shape in shapes]
    met = [schedule for schedule in found if schedule is not None]
    assert met
    for schedule in met:
        assert macs(geometry, schedule) <= limit
        encode(schedule, geometry=geometry, space=space)
