import itertools

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import geometries, shapes, spaces

from sparsesearch.budget.feasible import attainable, first_location_floors
from sparsesearch.budget.solve import (
    WORTHWHILE,
    check_feasible,
    fit_to_budget,
    least_cost,
)
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.errors import BudgetError
from sparsesearch.schedule import Schedule, Step, num_kept
from sparsesearch.search.samplers.factory import make_proposer
from sparsesearch.space.shape import Shape
from sparsesearch.study.trial import Fidelity, Measurement, Origin, Trial, TrialState


def macs(geometry, schedule):
    return AnalyticCost().estimate(geometry, schedule).macs


def with_counts(schedule, counts, *, num_tokens):
    steps = [
        Step(block=step.block, keep_ratio=count / num_tokens, scorer=step.scorer)
        for step, count in zip(schedule.steps, counts, strict=True)
    ]
    return Schedule(steps=tuple(steps))


@settings(max_examples=300)
@given(st.data())
def test_fits_are_valid_under_the_budget_and_maximal(data):
    geometry = data.draw(geometries(min_depth=2, min_grid=2))
    space = data.draw(spaces(geometry=geometry))
    shape = data.draw(shapes(space=space))
    num_tokens, num = geometry.stages[0].num_tokens, len(shape.blocks)
    floor = num_kept(num_tokens, space.ratio_limits(0)[0])
    assume(floor + num <= num_tokens)
    least = least_cost(geometry, space, shape=shape)
    budget = data.draw(st.integers(least - 1, int(1.3 * least) + 10))
    schedule = fit_to_budget(geometry, space, shape=shape, limit=budget)
    if schedule is None:
        top = with_counts(
            Schedule(steps=tuple(Step(block=b, keep_ratio=1.0, scorer=shape.steps[0].scorer) for b in shape.blocks)),
            [num_tokens - 1 - i for i in range(num)],
            num_tokens=num_tokens,
        )
        assert budget < least or macs(geometry, top) < WORTHWHILE * budget
        return
    resolved = schedule.resolve(geometry)
    counts = [step.num_tokens for step in resolved]
    assert macs(geometry, schedule) <= budget
    assert schedule == schedule.canonical(geometry)
    assert tuple(step.block for step in resolved) == shape.blocks
    assert all(later < earlier for earlier, later in itertools.pairwise([num_tokens, *counts]))
    assert counts[-1] >= floor
    for step, count in enumerate(counts):
        if count + 1 < (counts[step - 1] if step else num_tokens):
            more = [*counts[:step], count + 1, *counts[step + 1 :]]
            assert macs(geometry, with_counts(schedule, more, num_tokens=num_tokens)) > budget


@given(st.data())
def test_a_fit_is_deterministic_and_its_own_cost_is_a_budget_too(data):
    geometry = data.draw(geometries(min_depth=2, min_grid=3))
    space = data.draw(spaces(geometry=geometry))
    shape = data.draw(shapes(space=space))
    assume(num_kept(geometry.stages[0].num_tokens, space.ratio_limits(0)[0]) + 5 < geometry.stages[0].num_tokens)
    least = least_cost(geometry, space, shape=shape)
    budget = data.draw(st.integers(least, 2 * least + 10))
    fit = fit_to_budget(geometry, space, shape=shape, limit=budget)
    assert fit == fit_to_budget(geometry, space, shape=shape, limit=budget)
    if fit is not None:
        refit = fit_to_budget(geometry, space, shape=shape, limit=macs(geometry, fit))
        assert refit is not None
        assert macs(geometry, refit) <= macs(geometry, fit)


@given(st.data())
def test_attainable_interval_is_that_of_every_placement(data):
    geometry = data.draw(geometries(min_depth=2))
    space = data.draw(spaces(geometry=geometry))
    assume(len(space.locations) <= 8)
    num_tokens = geometry.stages[0].num_tokens
    floor = num_kept(num_tokens, space.ratio_limits(0)[0])
    costs = []
    firsts = {}
    for num in range(space.min_predictors, space.max_predictors + 1):
        if floor + num > num_tokens:
            continue
        for blocks in itertools.combinations([block for _, block in space.locations], num):
            for method in space.methods:
                scorer = method.scorer
                shape = Shape.at(blocks, method=method)
                least = least_cost(geometry, space, shape=shape)
                dense = Schedule(steps=tuple(Step(block=b, keep_ratio=1.0, scorer=scorer) for b in blocks))
                top = with_counts(dense, [num_tokens - 1 - i for i in range(num)], num_tokens=num_tokens)
                costs += [least, macs(geometry, top)]
                firsts[blocks[0]] = min(least, firsts.get(blocks[0], least))
    if not costs:
        with pytest.raises(BudgetError, match="no schedule fits"):
            attainable(geometry, space)
        return
    assert attainable(geometry, space) == (min(costs), max(costs))
    floors = first_location_floors(geometry, space)
    for place, least in enumerate(floors):
        assert least == min(cost for block, cost in firsts.items() if block >= space.locations[place][1])
    assert list(floors) == sorted(floors)


@settings(max_examples=60)
@given(st.data())
def test_proposals_are_feasible_new_and_inside_the_space(data):
    geometry = data.draw(geometries(min_depth=2, min_grid=4))
    space = data.draw(spaces(geometry=geometry))
    assume(num_kept(geometry.stages[0].num_tokens, space.ratio_limits(0)[0]) + 5 < geometry.stages[0].num_tokens)
    low, high = attainable(geometry, space)
    budget = data.draw(st.integers(low, high))
    try:
        check_feasible(geometry, space, limit=budget)
    except BudgetError:
        return
    sampler = data.draw(st.sampled_from(["evolution", "random", "tpe", "nsga2"]))
    proposer = make_proposer(sampler, geometry, space, low=None, high=budget, seed=data.draw(st.integers(0, 9)))
    keys = set()
    for index in range(14):
        proposed = proposer.propose(index)
        if proposed is None:
            break
        schedule, proposal = proposed
        blocks = [step.block for step in schedule.resolve(geometry)]
        assert macs(geometry, schedule) <= budget
        assert {(0, block) for block in blocks} <= set(space.locations)
        assert space.min_predictors <= len(blocks) <= space.max_predictors
        keys.add(schedule.key(geometry))
        assert len(keys) == index + 1
        proposer.tell(finished(geometry, schedule, number=index, proposal=proposal))


def finished(geometry, schedule, *, number, proposal):
    """The trial of a proposal, with a made-up accuracy."""
    top1 = 1.0 / (2.0 + sum(step.num_before / step.num_tokens for step in schedule.resolve(geometry)))
    measured = Measurement(
        step=0, attempt=1, fidelity=Fidelity.SUPERNET, metrics={"val_top1": top1}, seconds=0.0, seed=0
    )
    return Trial(
        number=number,
        fidelity=Fidelity.SUPERNET,
        origin=Origin.SEARCH,
        label="search",
        schedule=schedule,
        key=schedule.key(geometry),
        cost=AnalyticCost().estimate(geometry, schedule),
        seed=0,
        proposal=proposal,
        study="study",
        state=TrialState.COMPLETE,
        attempt=1,
        measurements=(measured,),
    )
