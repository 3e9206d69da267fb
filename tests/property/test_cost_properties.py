from hypothesis import given
from hypothesis import strategies as st
from strategies import SCORERS, geometries, schedules

from sparsesearch.cost.analytic import AnalyticCost, block_table, dense_macs
from sparsesearch.schedule import Schedule

PRICE = AnalyticCost().estimate


@given(st.data())
def test_table_rows_add_up_to_the_estimate(data):
    geometry = data.draw(geometries())
    schedule = data.draw(schedules(geometry=geometry))
    assert sum(row.macs for row in block_table(geometry, schedule)) == PRICE(geometry, schedule).macs


@given(st.data())
def test_cost_depends_on_the_canonical_form_only(data):
    geometry = data.draw(geometries())
    schedule = data.draw(schedules(geometry=geometry))
    assert PRICE(geometry, schedule) == PRICE(geometry, schedule.canonical(geometry))


@given(st.data())
def test_cost_never_rises_when_a_keep_ratio_falls(data):
    """Steps that already work keep working; a step that begins to work adds its predictor, which is another model."""
    geometry = data.draw(geometries(min_grid=2))
    schedule = data.draw(schedules(geometry=geometry)).canonical(geometry)
    if not schedule.steps:
        return
    i = data.draw(st.integers(0, len(schedule.steps) - 1))
    lowest = schedule.steps[i + 1].keep_ratio if i + 1 < len(schedule.steps) else 1e-3
    ratio = data.draw(st.floats(lowest, schedule.steps[i].keep_ratio))
    steps = list(schedule.steps)
    steps[i] = steps[i].model_copy(update={"keep_ratio": ratio})
    assert PRICE(geometry, Schedule(steps=tuple(steps))).macs <= PRICE(geometry, schedule).macs


@given(st.data())
def test_free_scorers_never_cost_more_than_dense(data):
    geometry = data.draw(geometries())
    schedule = data.draw(schedules(geometry=geometry, scorers=tuple(SCORERS[1:])))
    assert PRICE(geometry, schedule).macs <= dense_macs(geometry)
