"""Fitted latencies never fall, and add up over the steps of a schedule."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from latency_samples import CONDITIONS, GUESS
from sample_study import DEIT_SMALL

from sparsesearch.budget.lattice import CountLattice
from sparsesearch.budget.solve import fit_to_budget
from sparsesearch.cost.latency_model import LatencyModel, LatencyPrice, uses
from sparsesearch.latency.profile.profiled_methods import all_methods
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import Merge
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.shape import Shape, ShapeStep
from sparsesearch.study.latency_fit import Curve, LatencyFit, shape_of_stages

METHODS = [one for one in all_methods(DEIT_SMALL) if not isinstance(one.reducer, Merge)]
SPACE = SearchSpace(max_predictors=4).resolve(DEIT_SMALL)
NUM = 196

small = st.floats(0.0, 0.1)
curves = st.builds(
    Curve,
    offset=st.integers(0, 2),
    constant=small,
    linear=st.floats(0.0, 1e-3),
    quadratic=st.floats(0.0, 1e-6),
    steps=st.lists(st.tuples(st.sampled_from([8, 16, 64]), small), max_size=2).map(tuple),
    rises=st.lists(st.tuples(st.integers(0, 90), st.integers(91, 196), small), max_size=2).map(tuple),
)


@st.composite
def step_lists(draw):
    blocks = sorted(draw(st.lists(st.integers(1, 11), min_size=1, max_size=4, unique=True)))
    methods = [draw(st.sampled_from(METHODS)) for _ in blocks]
    return tuple(
        ShapeStep(block=block, phase=one.phase, reducer=one.reducer, scorer=one.scorer)
        for block, one in zip(blocks, methods, strict=True)
    )


@st.composite
def fits(draw, steps):
    names = {use.curve for use in (*uses(DEIT_SMALL, steps), *uses(DEIT_SMALL, ()))}
    found = {name: draw(curves) for name in sorted(names)}
    found["everything else"] = Curve(constant=0.5)
    return LatencyFit(
        backbone=DEIT_SMALL.name,
        shape=shape_of_stages(DEIT_SMALL),
        conditions=CONDITIONS,
        dense_ms=1.0,
        curves=found,
        error=GUESS,
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_tables_never_fall_and_add_up(data):
    steps = data.draw(step_lists())
    price = LatencyPrice(data.draw(fits(steps)))
    base, tables = price.tables(DEIT_SMALL, steps)
    assert all((np.diff(table) >= 0).all() for table in tables)
    counts = sorted(data.draw(st.lists(st.integers(1, NUM - 1), min_size=len(steps), max_size=len(steps), unique=True)))
    schedule = Schedule(
        steps=tuple(
            Step(block=s.block, phase=s.phase, reducer=s.reducer, scorer=s.scorer, keep_ratio=count / NUM)
            for s, count in zip(steps, reversed(counts), strict=True)
        )
    )
    total = base + sum(float(table[count]) for table, count in zip(tables, reversed(counts), strict=True))
    assert price.of(DEIT_SMALL, schedule) == total
    fewer = Schedule(steps=(*schedule.steps[:-1], schedule.steps[-1].model_copy(update={"keep_ratio": 1 / NUM})))
    model = LatencyModel(price.model.fit)
    assert model.predict(DEIT_SMALL, fewer) <= model.predict(DEIT_SMALL, schedule)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_fits_to_milliseconds_are_under_the_budget_and_maximal(data):
    steps = data.draw(step_lists())
    price = LatencyPrice(data.draw(fits(steps)))
    shape = Shape(steps=steps)
    lattice = CountLattice(DEIT_SMALL, SPACE, shape=shape, price=price)
    low, high = lattice.cost(lattice.lowest), lattice.cost(lattice.highest)
    limit = data.draw(st.floats(low, max(low, high)))
    schedule = fit_to_budget(DEIT_SMALL, SPACE, shape=shape, limit=limit, price=price)
    assert schedule is not None
    assert price.of(DEIT_SMALL, schedule) <= limit * (1 + 1e-12)
    counts = [step.num_tokens for step in schedule.resolve(DEIT_SMALL)]
    for step in range(len(counts)):
        more = [*counts[:step], counts[step] + 1, *counts[step + 1 :]]
        if more[step] < (counts[step - 1] if step else NUM):
            assert lattice.cost(more) > limit
