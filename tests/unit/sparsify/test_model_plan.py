import dataclasses

import pytest

from sparsesearch.backbones.models.pico import create_pico
from sparsesearch.backbones.models.pico_grid import create_convnext_pico
from sparsesearch.backbones.segments import done_before
from sparsesearch.backbones.transforms import attach_, set_schedule_, sparsify_
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import ClassAttentionScorer, FastSlow, Fuse, Merge, RandomScorer, SpotScorer
from sparsesearch.sparsify.attention import Captures

MIXED = Schedule(
    steps=(
        Step(block=2, keep_ratio=0.7, reducer=Fuse(), scorer=ClassAttentionScorer()),
        Step(block=4, keep_ratio=0.5, reducer=Merge(), scorer=None),
        Step(block=6, phase="before_ffn", keep_ratio=0.2, scorer=RandomScorer(seed=3)),
    )
)
GRID = Schedule(steps=(Step(stage=1, block=1, keep_ratio=0.5, reducer=FastSlow()),))


def plan_of(create, schedule, *, seed=0):
    model = create()
    sparsify_(model, schedule, seed=seed)
    return model.sparsity.state.plan


@pytest.mark.parametrize(("create", "schedule"), [(create_pico, MIXED), (create_convnext_pico, GRID)])
def test_equal_schedules_give_equal_plans(create, schedule):
    plan = plan_of(create, schedule)
    assert plan == plan_of(create, schedule, seed=1)
    assert hash(plan) == hash(plan_of(create, schedule, seed=1))
    assert plan != plan_of(create, Schedule())
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.steps = ()


def test_what_a_plan_says():
    plan = plan_of(create_pico, MIXED)
    assert [(step.location, step.num_alive, step.num_kept, step.learned) for step in plan.steps] == [
        ((0, 2, "before_block"), 64, 44, False),
        ((0, 4, "before_block"), 44, 32, False),
        ((0, 6, "before_ffn"), 32, 12, False),
    ]
    assert plan.captures == ((1, Captures(class_row=True)), (3, Captures(keys=True)))
    assert plan.captures_of(3) == Captures(keys=True)
    assert plan.captures_of(2) is None
    assert plan.counts_size
    assert plan.tracks_positions
    assert plan.steps_at((0, 4, "before_block")) == (plan.steps[1],)
    assert plan.steps_at((0, 4, "before_ffn")) == ()
    assert plan.stages[0].num_tokens == 64
    assert plan.stages[0].num_prefix_tokens == 1


def test_fast_paths_of_a_grid():
    plan = plan_of(create_convnext_pico, GRID)
    assert plan.fast_paths == (((1, 1), "1_1"), ((1, 2), "1_2"), ((1, 3), "1_3"))
    assert plan.before([(0, 0), (1, 0), (1, 1)]).fast_paths == (((1, 1), "1_1"),)
    assert plan.before([(0, 0), (1, 0)]) == plan_of(create_convnext_pico, Schedule()).before([(0, 0), (1, 0)])


def test_probes_give_way_to_steps():
    model = create_pico()
    attach_(model, [(0, 2), (0, 4)])
    set_schedule_(model, Schedule.at([2], [0.5]))
    plan = model.sparsity.state.plan
    assert [(step.name, step.num_kept) for step in plan.steps_at((0, 2, "before_block"), probe=True)] == [("0_2", 32)]
    assert [
        (step.name, step.num_alive, step.num_kept) for step in plan.steps_at((0, 4, "before_block"), probe=True)
    ] == [("0_4", 32, 32)]
    assert plan.steps_at((0, 4, "before_block")) == ()


def test_a_prefix_is_shared_by_plans_that_agree_before_a_block():
    model = create_pico()
    attach_(model, [(0, 2), (0, 4), (0, 6)])
    keys = []
    for blocks, ratios in (([2, 4], [0.5, 0.3]), ([2, 6], [0.5, 0.1]), ([2, 4], [0.4, 0.3]), ([6], [0.1])):
        set_schedule_(model, Schedule.at(blocks, ratios))
        keys.append([done_before(model, index) for index in range(8)])
    first, second, third, last = keys
    assert first[:3] == second[:3] == third[:3] == last[:3]
    assert first[3:5] == second[3:5]
    assert first[5] != second[5]
    assert first[3] != third[3]
    assert first[3] != last[3]
    set_schedule_(model, Schedule())
    assert last[:7] == [done_before(model, index) for index in range(7)]


def test_the_records_of_a_later_scorer_belong_to_the_prefix():
    model = create_pico()
    spot = Schedule(steps=(Step(block=4, keep_ratio=0.5, scorer=SpotScorer()),))
    sparsify_(model, spot)
    sparse = [done_before(model, index) for index in range(5)]
    set_schedule_(model, Schedule())
    assert sparse[0] == done_before(model, 0)
    assert sparse[4] != done_before(model, 4)
