import pytest
from geometries import CONVNEXT_TINY, DEIT_SMALL, SWIN_TINY

from sparsesearch.budget.feasible import attainable, first_location_floors, ranges
from sparsesearch.budget.solve import check_feasible, feasible_intervals, fit_to_budget
from sparsesearch.cost.analytic import dense_macs
from sparsesearch.errors import BudgetError
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.schedule.methods import Merge, SpotScorer
from sparsesearch.space.definition import SearchSpace


@pytest.mark.parametrize("geometry", [DEIT_SMALL, CONVNEXT_TINY, SWIN_TINY])
def test_both_ends_are_costs_of_schedules(geometry):
    space = SearchSpace(max_predictors=4).resolve(geometry)
    low, high = attainable(geometry, space)
    found = ranges(geometry, space)
    [cheapest] = [one for one in found if one.low == low][:1]
    assert fit_to_budget(geometry, space, shape=cheapest.shape, limit=low) is not None
    assert fit_to_budget(geometry, space, shape=cheapest.shape, limit=low - 1) is None
    assert low < dense_macs(geometry) < high


def test_merging_alone_cannot_go_as_low_as_pruning():
    lows = []
    for reducers in ((), (Merge(),)):
        space = SearchSpace(max_predictors=2, reducers=reducers)
        lows.append(attainable(DEIT_SMALL, space.resolve(DEIT_SMALL))[0])
    assert lows[1] > 1.5 * lows[0]


def test_floors_rise_with_the_first_place():
    space = SearchSpace(min_predictors=2, max_predictors=3).resolve(CONVNEXT_TINY)
    floors = first_location_floors(CONVNEXT_TINY, space)
    assert len(floors) == 8, "the last of nine blocks leaves no room for a second predictor"
    assert list(floors) == sorted(floors)


def test_a_gap_between_placements_is_no_budget():
    """One predictor at the first or at the last block, leaving about a half either way."""
    space = SearchSpace(blocks=(1, 11), max_predictors=1, min_keep_ratio=0.45, max_keep_ratio=0.5).resolve(DEIT_SMALL)
    dense = dense_macs(DEIT_SMALL)
    intervals = feasible_intervals(DEIT_SMALL, space)
    assert len(intervals) == 2
    with pytest.raises(BudgetError, match=r"GFLOPs .* of dense or .* of dense; give a budget in that range"):
        check_feasible(DEIT_SMALL, space, limit=0.7 * dense)
    for low, high in intervals:
        check_feasible(DEIT_SMALL, space, limit=0.5 * (low + high))


def test_a_range_in_milliseconds_says_so():
    class Clock:
        unit = "ms"

        def tables(self, geometry, steps):
            from sparsesearch.cost.separable import MACS

            base, tables = MACS.tables(geometry, steps)
            return type(MACS.tables(geometry, ()))(base / 1e9, tuple(table / 1e9 for table in tables))

        def of(self, geometry, schedule):
            from sparsesearch.cost.separable import MACS

            return MACS.of(geometry, schedule) / 1e9

    with pytest.raises(BudgetError, match=r"meets 0\.2 ms.*0\.5616 to 4\.598 ms"):
        check_feasible(DEIT_SMALL, SearchSpace(max_predictors=4).resolve(DEIT_SMALL), limit=0.2, price=Clock())


def test_scorers_that_differ_only_where_no_step_is_before_are_told_apart():
    stage = StageGeometry(
        depth=3, dim=4, attn_dim=4, num_heads=1, mlp_dim=1, grid=(3, 3), num_prefix_tokens=0, has_class_token=False
    )
    geometry = BackboneGeometry(name="x", image_size=(3, 3), stages=(stage,), stem_macs=0, head_macs=0, params=1)
    spots = (SpotScorer(layers=2, heads="mean"), SpotScorer(layers="since_last"))
    one = {"blocks": (0, 2), "min_predictors": 1, "max_predictors": 1, "phases": ("before_ffn",)}
    alone = [attainable(geometry, SearchSpace(**one, scorers=(spot,)).resolve(geometry)) for spot in spots]
    both = attainable(geometry, SearchSpace(**one, scorers=spots).resolve(geometry))
    assert alone[0][1] < alone[1][1]
    assert both == (min(low for low, _ in alone), max(high for _, high in alone))
