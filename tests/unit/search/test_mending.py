import numpy as np
import pytest
from geometries import CONVNEXT_TINY, DEIT_PICO, DEIT_SMALL, SWIN_TINY

from sparsesearch.budget.solve import fit_to_budget, reachable
from sparsesearch.cost.analytic import AnalyticCost, dense_macs
from sparsesearch.errors import BudgetError
from sparsesearch.search.mending import fit_nearest
from sparsesearch.space.definition import load_space
from sparsesearch.space.encoding import outside, shape_of
from sparsesearch.space.sampling import draw_shape
from sparsesearch.space.shape import Shape

SPACES = [
    ("deit_small", DEIT_SMALL),
    ("isotropic_full", DEIT_SMALL),
    ("deit_pico_full", DEIT_PICO),
    ("convnext", CONVNEXT_TINY),
    ("convnext_full", CONVNEXT_TINY),
    ("swin_full", SWIN_TINY),
]


@pytest.mark.parametrize(("name", "geometry"), SPACES)
def test_two_thousand_draws_all_meet_their_budgets(name, geometry):
    rng = np.random.default_rng(0)
    space = load_space(name).for_geometry(geometry)
    [(low, high)] = reachable(geometry, space)
    price = AnalyticCost().estimate
    for draw in range(2000 // len(SPACES) + 1):
        limit = int(low + rng.beta(0.5, 1.0) * (0.98 * high - low))
        shape = draw_shape(space, rng=rng)
        schedule = fit_nearest(geometry, space, shape=shape, limit=limit)
        assert limit * 0.9 < price(geometry, schedule).macs <= limit, draw
        assert outside(shape_of(schedule, geometry=geometry), space) is None


def test_a_shape_that_fits_is_left_alone(deit_small):
    space = load_space("deit_small").for_geometry(deit_small)
    shape = Shape.at((3, 6, 9), (1.0, 0.5, 0.7))
    limit = 3_000_000_000
    assert fit_nearest(deit_small, space, shape=shape, limit=limit) == fit_to_budget(
        deit_small, space, shape=shape, limit=limit
    )


def test_one_that_starts_too_late_starts_earlier_and_keeps_its_weights(deit_small):
    space = load_space("deit_small").for_geometry(deit_small)
    schedule = fit_nearest(deit_small, space, shape=Shape.at((8, 9), (1.0, 0.2)), limit=dense_macs(deit_small) // 4)
    mended = shape_of(schedule, geometry=deit_small).canonical()
    assert mended.blocks[0] < 3
    assert mended.weights[0] == 1.0


def test_a_budget_below_everything_is_refused(deit_small):
    space = load_space("deit_small").for_geometry(deit_small)
    with pytest.raises(BudgetError, match="check_reachable"):
        fit_nearest(deit_small, space, shape=Shape.at((8,)), limit=10**8)
