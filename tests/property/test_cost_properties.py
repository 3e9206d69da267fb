import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from strategies import SCORERS, geometries, schedules

from sparsesearch.cost.analytic import AnalyticCost, block_table, dense_macs, price_many
from sparsesearch.schedule import Schedule, Step

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


@given(st.data())
def test_vectorised_price_equals_the_scalar_one(data):
    geometry = data.draw(geometries())
    stage = geometry.stages[0]
    rows, slots = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 5))
    phase = data.draw(st.sampled_from(["before_block", "before_ffn"]))
    scorer = data.draw(st.sampled_from(SCORERS))
    blocks = [
        sorted(data.draw(st.lists(st.integers(0, stage.depth - 1), min_size=slots, max_size=slots)))
        for _ in range(rows)
    ]
    counts = [
        sorted(data.draw(st.lists(st.integers(1, stage.num_tokens), min_size=slots, max_size=slots)), reverse=True)
        for _ in range(rows)
    ]
    prices = price_many(
        geometry,
        blocks=np.array(blocks, dtype=np.int64).reshape(rows, slots),
        counts=np.array(counts, dtype=np.int64).reshape(rows, slots),
        scorer=scorer,
        phase=phase,
    )
    for row in range(rows):
        steps = tuple(
            Step(block=block, phase=phase, keep_ratio=count / stage.num_tokens, scorer=scorer)
            for block, count in zip(blocks[row], counts[row], strict=True)
        )
        assert PRICE(geometry, Schedule(steps=steps)).macs == int(prices[row])
