import itertools
import math

import numpy as np
import pytest
from geometries import CONVNEXT_TINY, DEIT_SMALL
from hypothesis import given
from hypothesis import strategies as st

from sparsesearch.schedule.methods import ClassAttentionScorer, Fuse, Merge, NormScorer, Prune
from sparsesearch.search.samplers.factory import make_proposer
from sparsesearch.search.samplers.gradients import closest_steps
from sparsesearch.space.countable import countable_methods, everywhere
from sparsesearch.space.definition import SearchSpace
from sparsesearch.study.learned_counts import LearnedCounts
from sparsesearch.study.trial import Fidelity, Origin, TrialState

SPACE = SearchSpace(
    reducers=(Prune(), Fuse(), Merge()), scorers=(ClassAttentionScorer(), NormScorer()), max_predictors=4
)
BUDGET = 3_000_000_000


def step_function(steps, stages, *, is_cumulative):
    """The level of each block."""
    starts, levels, level = dict(steps), [], 0.0
    for block, stage in enumerate(stages):
        if not block or stage != stages[block - 1]:
            level = 0.0
        if block in starts:
            level = starts[block] + (level if is_cumulative else 0.0)
        levels.append(level)
    return np.array(levels)


@given(
    st.lists(st.floats(0.01, 1.0), min_size=1, max_size=7),
    st.integers(0, 6),
    st.integers(1, 4),
    st.booleans(),
)
def test_no_step_function_is_much_closer(values, first_of_second, most, is_cumulative):
    stages = [int(i >= first_of_second) for i in range(len(values))]
    curve = np.array(values)
    if is_cumulative:
        for stage in set(stages):
            inside = [i for i, s in enumerate(stages) if s == stage]
            curve[inside] = np.cumsum(curve[inside])
    found = closest_steps(curve, stages, most=most, is_cumulative=is_cumulative)
    assert 1 <= len(found) <= most
    assert all(weight > 0.0 for _, weight in found)
    error = ((step_function(found, stages, is_cumulative=is_cumulative) - curve) ** 2).sum()
    for num in range(1, min(most, len(values)) + 1):
        for starts in itertools.combinations(range(len(values)), num):
            best = np.zeros(len(values))
            for stage in set(stages):
                inside = [i for i, s in enumerate(stages) if s == stage]
                own = [start for start in starts if start in inside]
                for start, end in itertools.pairwise([*own, inside[-1] + 1]):
                    best[start:end] = curve[start:end].mean()
            assert error <= ((best - curve) ** 2).sum() + 1.1e-3 * (curve**2).sum()


def test_steps_do_not_outnumber_what_is_needed():
    curve = np.array([0.0001, 0.5, 0.5, 1.0, 1.0])
    assert [start for start, _ in closest_steps(curve - 1e-4, [0] * 5, most=4, is_cumulative=True)] == [1, 3]
    assert len(closest_steps(curve, [0] * 5, least=3, most=4, is_cumulative=True)) >= 3


def counts_trials(geometry, space, make_trial, *, level_at, loss=0.5):
    """What gradients might have learned: a drop at some blocks, and hardly any elsewhere."""
    trials = []
    for number, method in enumerate(countable_methods(space, has_trained_scorers=True)):
        schedule = everywhere(space, geometry, method)
        blocks = tuple((step.stage, step.block) for step in schedule.steps)
        levels = tuple(0.0 if block in level_at else -6.0 for _, block in blocks)
        learned = LearnedCounts(blocks=blocks, levels=levels, trends=(0.0,) * len(blocks), loss=loss + 0.1 * number)
        trial = make_trial(
            geometry,
            number=number,
            schedule=schedule,
            top1=0.0,
            fidelity=Fidelity.COUNTS,
            origin=Origin.REFERENCE,
            state=TrialState.REFERENCE,
        )
        measured = trial.measurements[0].model_copy(update={"metrics": learned.metrics()})
        trials.append(trial.model_copy(update={"measurements": (measured,)}))
    return trials


def proposer(geometry, space, *, low=None):
    return make_proposer("gradients", geometry, space, low=low, high=BUDGET, seed=0)


def test_the_first_proposals_are_what_was_learned(make_trial):
    space = SPACE.resolve(DEIT_SMALL)
    search = proposer(DEIT_SMALL, space)
    for trial in counts_trials(DEIT_SMALL, space, make_trial, level_at=(2, 7)):
        search.tell(trial)
    proposed = [search.propose(index) for index in range(5)]
    for schedule, proposal in proposed:
        assert [step.block for step in schedule.steps] == [2, 7]
        assert proposal.seen == ()
    kinds = [(s.steps[0].reducer.kind, s.steps[0].scorer) for s, _ in proposed]
    assert kinds[:3] == [("prune", ClassAttentionScorer()), ("fuse", ClassAttentionScorer()), ("merge", None)]
    assert kinds[3:] == [("prune", NormScorer()), ("fuse", NormScorer())]


def test_a_range_gets_them_at_several_budgets(make_trial):
    space = SPACE.resolve(DEIT_SMALL)
    search = proposer(DEIT_SMALL, space, low=1_500_000_000)
    for trial in counts_trials(DEIT_SMALL, space, make_trial, level_at=(2, 7)):
        search.tell(trial)
    costs = [search.cost(search.propose(index)[0]) for index in range(6)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > 0.99 * BUDGET
    assert 0.99 * 1_500_000_000 < costs[-1] <= 1_500_000_000


def test_without_them_it_is_evolution(make_trial):
    space = SPACE.resolve(DEIT_SMALL)
    search = proposer(DEIT_SMALL, space)
    for trial in counts_trials(DEIT_SMALL, space, make_trial, level_at=(2, 7)):
        search.tell(trial.model_copy(update={"state": TrialState.FAILED, "measurements": ()}))
    plain = make_proposer("evolution", DEIT_SMALL, space, low=None, high=BUDGET, seed=0)
    for index in range(5):
        assert search.propose(index) == plain.propose(index)


def test_rebuilt_it_goes_on_alike(make_trial):
    space = SPACE.resolve(DEIT_SMALL)
    told = counts_trials(DEIT_SMALL, space, make_trial, level_at=(3, 5, 9))
    search = proposer(DEIT_SMALL, space)
    for trial in told:
        search.tell(trial)
    for index in range(25):
        schedule, proposal = search.propose(index)
        loss = sum(math.exp(-step.block / 3.0) * (1.0 - step.keep_ratio) for step in schedule.steps)
        told.append(
            make_trial(DEIT_SMALL, number=len(told), schedule=schedule, top1=0.8 - 0.1 * loss, proposal=proposal)
        )
        search.tell(told[-1])
    again = proposer(DEIT_SMALL, space)
    for trial in reversed(told[:20]):
        again.tell(trial)
    first = told[20].proposal.index
    for trial in told[20:]:
        assert again.propose(trial.proposal.index) == (trial.schedule, trial.proposal)
        again.tell(trial)
    assert first > 0


def test_paths_of_a_hierarchical_backbone(make_trial):
    space = SearchSpace(max_predictors=3).resolve(CONVNEXT_TINY)
    search = make_proposer("gradients", CONVNEXT_TINY, space, low=None, high=3_900_000_000, seed=0)
    for trial in counts_trials(CONVNEXT_TINY, space, make_trial, level_at=(1, 2, 3, 4, 5, 6, 7, 8)):
        search.tell(trial)
    schedule, _ = search.propose(0)
    assert 1 <= len(schedule.steps) <= 3
    assert schedule.steps[0].reducer.kind == "fast_slow"


@pytest.mark.parametrize("low", [None, 1_500_000_000])
def test_a_step_count_that_the_space_requires(make_trial, low):
    space = SPACE.model_copy(update={"min_predictors": 3}).resolve(DEIT_SMALL)
    search = proposer(DEIT_SMALL, space, low=low)
    for trial in counts_trials(DEIT_SMALL, space, make_trial, level_at=(4,)):
        search.tell(trial)
    for index in range(8):
        schedule, _ = search.propose(index)
        assert 3 <= len({step.block for step in schedule.steps}) <= 4
