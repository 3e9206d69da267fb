import itertools

from geometries import DEIT_PICO

from sparsesearch.budget.count import share_of_budget
from sparsesearch.cost.analytic import AnalyticCost, dense_macs
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import Merge, Prune
from sparsesearch.space.definition import SearchSpace


def test_the_estimate_agrees_with_counting():
    space = SearchSpace(
        blocks=(2, 5), max_predictors=2, min_keep_ratio=0.6, reducers=(Prune(), Merge()), methods_per="location"
    ).resolve(DEIT_PICO)
    limit = 0.85 * dense_macs(DEIT_PICO)
    counted = 0
    steps = {
        (block, count, reducer.kind): Step(block=block, keep_ratio=count / 64, reducer=reducer)
        for block in (2, 5)
        for count in range(38, 64)
        for reducer in (Prune(), Merge())
    }
    singles = [Schedule(steps=(step,)) for step in steps.values()]
    pairs = [
        Schedule(steps=(steps[2, first, a], steps[5, second, b]))
        for first, second in itertools.combinations(range(63, 37, -1), 2)
        for a, b in itertools.product(("prune", "merge"), repeat=2)
    ]
    for schedule in singles + pairs:
        counted += 0.97 * limit <= AnalyticCost().estimate(DEIT_PICO, schedule).macs <= limit
    found = share_of_budget(DEIT_PICO, space, limit=limit)
    assert abs(found.schedules - counted) < 4 * found.error
    assert found.error < 0.05 * counted
