import math

import pytest
from geometries import DEIT_SMALL, SWIN_TINY
from sample_study import prepared

from sparsesearch.schedule.methods import ClassAttentionScorer, DynamicVitScorer, Fuse, Merge, NormScorer, Prune
from sparsesearch.space.countable import countable_methods, everywhere
from sparsesearch.space.definition import SearchSpace
from sparsesearch.study.learned_counts import LearnedCounts, counted_schedules, position_of
from sparsesearch.study.spec import Budget, FidelitySpec, StudySpec

SPACE = SearchSpace(
    reducers=(Prune(), Fuse(), Merge()),
    scorers=(ClassAttentionScorer(), NormScorer(), DynamicVitScorer()),
    phases=("before_block", "before_ffn"),
    max_predictors=4,
)


def test_metrics_and_back():
    learned = LearnedCounts(blocks=((0, 3), (2, 1)), levels=(0.5, -1.0), trends=(0.0, 0.25), loss=0.125)
    assert LearnedCounts.of_metrics(learned.metrics(), learned.blocks) == learned


def test_weights_are_linear_in_the_budget_on_the_logarithmic_scale():
    learned = LearnedCounts(blocks=((0, 1),), levels=(math.log(2.0),), trends=(math.log(3.0),), loss=0.0)
    positions = [position_of(limit, low=1.0, high=3.0) for limit in (1.0, 2.0, 3.0)]
    assert [learned.weights(p)[0] for p in positions] == pytest.approx([2 / 3, 2.0, 6.0])
    assert position_of(5.0, low=None, high=5.0) == 0.0


def test_pruning_and_fusing_by_one_ranking_are_learned_once_and_merging_not_at_all():
    space = SPACE.resolve(DEIT_SMALL)
    trained = countable_methods(space, has_trained_scorers=True)
    assert all(method.reducer == Prune() for method in trained)
    assert len(trained) == len({(method.scorer, method.phase) for method in space.methods if method.scorer})
    untrained = countable_methods(space, has_trained_scorers=False)
    assert {method.scorer for method in untrained} == {ClassAttentionScorer(), NormScorer()}


@pytest.mark.parametrize("geometry", [DEIT_SMALL, SWIN_TINY])
def test_a_step_at_every_location_and_each_drops_something(geometry):
    space = SearchSpace().resolve(geometry)
    (method,) = countable_methods(space, has_trained_scorers=True)
    schedule = everywhere(space, geometry, method)
    assert [(step.stage, step.block) for step in schedule.steps] == list(space.locations)
    assert all(step.num_tokens < step.num_before for step in schedule.resolve(geometry))


def test_only_the_sampler_that_needs_them_has_them():
    spec = StudySpec(
        name="study",
        backbone="deit_small_patch16_224",
        budget=Budget(high=0.6),
        space=SPACE,
        fidelity=FidelitySpec(strategy="training-free", evaluations=5),
    )
    spec = prepared(spec, DEIT_SMALL)
    assert counted_schedules(spec) == []
    found = counted_schedules(spec.model_copy(update={"sampler": "gradients"}))
    assert len(found) == 4
    assert len({schedule.key(DEIT_SMALL) for _, schedule in found}) == 4
