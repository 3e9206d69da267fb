import numpy as np
import pytest

from sparsesearch.budget.solve import fit_to_budget
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import (
    ClassAttentionScorer,
    DynamicVitScorer,
    FastSlow,
    Fuse,
    Merge,
    NormScorer,
    Prune,
)
from sparsesearch.search.samplers.genomes import Variation, genomes_of
from sparsesearch.search.samplers.rough_price import RoughPrice
from sparsesearch.search.samplers.steps import Features
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.encoding import outside, shape_of
from sparsesearch.space.sampling import draw_shape, genes_of, settle
from sparsesearch.space.shape import MIN_WEIGHT

SPACES = [
    SearchSpace(max_predictors=3),
    SearchSpace(min_predictors=2, max_predictors=5, scorers=(DynamicVitScorer(), NormScorer())),
    SearchSpace(
        max_predictors=4,
        reducers=(Prune(), Fuse(), Merge()),
        scorers=(DynamicVitScorer(), ClassAttentionScorer()),
        phases=("before_block", "before_ffn"),
        methods_per="location",
        merge_after_prune=True,
    ),
]


def check(genomes, space):
    used = genomes.used_PS
    assert (genomes.num_P >= space.min_predictors).all()
    assert (genomes.num_P <= space.max_predictors).all()
    assert (np.diff(genomes.location_PS, axis=1)[used[:, 1:]] > 0).all()
    assert (genomes.location_PS >= 0).all()
    assert (genomes.location_PS < len(space.locations)).all()
    assert (genomes.weight_PS >= MIN_WEIGHT).all()
    np.testing.assert_allclose(np.where(used, genomes.weight_PS, 0.0).max(axis=1), 1.0)
    assert (genomes.method_PS < len(space.methods)).all()
    for row in range(0, len(genomes.num_P), 7):
        assert outside(settle(genomes.genes(row), space), space) is None


@pytest.mark.parametrize("space", SPACES)
def test_drawn_changed_and_crossed_genomes_are_of_the_space(deit_small, space):
    space = space.resolve(deit_small)
    variation, rng = Variation(space), np.random.default_rng(0)
    drawn = variation.draw(200, rng=rng)
    check(drawn, space)
    changed = drawn
    for _ in range(5):
        changed = variation.mutate(changed, rng=rng)
        check(changed, space)
    check(variation.cross(drawn, changed, rng=rng), space)
    assert len({tuple(row) for row in changed.location_PS.tolist()}) > 50
    assert set(changed.num_P.tolist()) == set(range(space.min_predictors, space.max_predictors + 1))


@pytest.mark.parametrize("space", SPACES)
def test_children_have_what_a_parent_has(deit_small, space):
    space = space.resolve(deit_small)
    variation, rng = Variation(space), np.random.default_rng(0)
    first, second = variation.draw(100, rng=rng), variation.draw(100, rng=rng)
    children = variation.cross(first, second, rng=rng)
    for row in range(100):
        of_parents = {gene.position for gene in (*first.genes(row), *second.genes(row))}
        assert {gene.position for gene in children.genes(row)} <= of_parents


def test_wishes_and_genomes_are_the_same(deit_small):
    space = SPACES[2].resolve(deit_small)
    rng = np.random.default_rng(0)
    shapes = [draw_shape(space, rng=rng) for _ in range(20)]
    genomes = genomes_of([genes_of(shape, space) for shape in shapes], space)
    for row, shape in enumerate(shapes):
        again = settle(genomes.genes(row), space)
        assert [(step.location, step.method) for step in again.steps] == [(s.location, s.method) for s in shape.steps]
        np.testing.assert_allclose(again.weights, shape.weights)


@pytest.mark.parametrize("space", SPACES)
def test_rough_prices_are_near(deit_small, space):
    space = space.resolve(deit_small)
    rng, limit = np.random.default_rng(0), 3.0e9
    shapes = [draw_shape(space, rng=rng, latest_first=4) for _ in range(60)]
    genomes = genomes_of([genes_of(shape, space) for shape in shapes], space)
    log_left_PS, costs_P = RoughPrice(deit_small, space).scaled(genomes, np.full(60, limit))
    assert ((costs_P <= limit) & (costs_P > 0.9 * limit)).mean() > 0.9
    errors = []
    for row, shape in enumerate(shapes):
        schedule = fit_to_budget(deit_small, space, shape=shape, limit=limit)
        if schedule is not None and all(placed.merge is None for placed in shape.located_methods):
            exact = [step.num_tokens / 196 for step in schedule.resolve(deit_small)]
            errors += list(np.exp(log_left_PS[row, : len(exact)]) - exact)
    assert np.mean(np.abs(errors)) < 0.05
    assert (log_left_PS <= 0.0).all()


def test_features_say_what_each_block_sees(deit_small):
    space = SPACES[2].resolve(deit_small)
    features = Features(deit_small, space)
    before = Schedule.at([3, 6], [0.5, 0.25])
    same = Schedule(steps=(*before.steps, Step(block=9, keep_ratio=0.25)))
    ffn = Schedule.at([3, 6], [0.5, 0.25], phase="before_ffn")
    foreign = Schedule.at([3, 6], [0.5, 0.25], scorer=NormScorer())
    x = features.of(features.steps([before, same, ffn, foreign, Schedule()]))
    assert x.shape == (5, 3 * 12 + 2 * features.num_methods)
    np.testing.assert_array_equal(x[0], x[1])
    assert not np.any(x[4])
    attention, ffn_part, drops, early, late = np.split(x * 1.0, [12, 24, 36, 36 + features.num_methods], axis=1)
    scale = np.sqrt(2 * 12)
    np.testing.assert_allclose(np.exp(scale * attention[0]), [1.0] * 3 + [0.5] * 3 + [0.25] * 6)
    np.testing.assert_allclose(attention[0], ffn_part[0])
    np.testing.assert_allclose(np.exp(scale * attention[2]), [1.0] * 4 + [0.5] * 3 + [0.25] * 5)
    np.testing.assert_allclose(ffn_part[2], ffn_part[0])
    np.testing.assert_allclose(drops[0], np.log(2.0) * np.isin(np.arange(12), [3, 6]))
    np.testing.assert_allclose((early + late).sum(axis=1) / 0.3, [np.log(4.0)] * 4 + [0.0])
    assert early[3, -1] / 0.3 == pytest.approx(np.log(2.0) * (9 / 12 + 6 / 12))
    assert late[3, -1] / 0.3 == pytest.approx(np.log(2.0) * (3 / 12 + 6 / 12))


def test_a_method_alone_is_not_told_apart_from_what_blocks_see(deit_small):
    space = SearchSpace(max_predictors=3).resolve(deit_small)
    features = Features(deit_small, space)
    steps = features.steps(
        [Schedule.at([3, 6], [0.5, 0.25], scorer=scorer) for scorer in (DynamicVitScorer(), NormScorer())]
    )
    x = features.of(steps)
    assert x.shape == (2, 3 * 12 + 2)
    assert not np.any(x[0, 36:])
    assert np.all(x[1, 36:] > 0.0)


def test_weights_tell_early_from_late_and_drops_from_what_is_left(deit_small):
    features = Features(deit_small, SPACES[2].resolve(deit_small))
    weights = features.columns.weights(decay=1.0, drops=0.3)
    attention, ffn, drops, methods = np.split(weights, [12, 24, 36])
    np.testing.assert_allclose(attention, np.exp(-np.arange(12) / 12))
    np.testing.assert_allclose(ffn, attention)
    np.testing.assert_allclose(drops, 0.3 * attention)
    np.testing.assert_allclose(methods, 1.0)
    assert len(methods) == 2 * features.num_methods


def test_features_of_genomes_are_those_of_their_schedules(deit_small):
    """Up to the rounding of tokens."""
    space = SPACES[1].resolve(deit_small)
    features, rng = Features(deit_small, space), np.random.default_rng(1)
    schedules = []
    while len(schedules) < 10:
        schedule = fit_to_budget(deit_small, space, shape=draw_shape(space, rng=rng, latest_first=3), limit=2.5e9)
        schedules += [schedule] if schedule is not None else []
    steps = features.steps(schedules)
    wider = features.steps([*schedules, Schedule.at(list(range(1, 9)), [0.9 - 0.1 * i for i in range(8)])])
    np.testing.assert_array_equal(features.of(steps), features.of(wider)[:10])
    shapes = [shape_of(schedule, geometry=deit_small) for schedule in schedules]
    assert [len(shape.steps) for shape in shapes] == steps.used_PS.sum(axis=1).tolist()
    assert all(AnalyticCost().estimate(deit_small, schedule).macs <= 2.5e9 for schedule in schedules)


def test_slow_paths_leave_attention_alone(convnext_like):
    space = SearchSpace(reducers=(FastSlow(),), max_predictors=3).resolve(convnext_like)
    features = Features(convnext_like, space)
    stage = space.locations[0][0]
    schedule = Schedule(steps=(Step(stage=stage, block=1, keep_ratio=0.5, reducer=FastSlow()),))
    x = features.of(features.steps([schedule]))[0]
    attention, ffn = x[: features.num_blocks], x[features.num_blocks : 2 * features.num_blocks]
    assert not np.any(attention)
    first = features.block(stage, 1)
    assert not np.any(ffn[:first])
    assert (ffn[first : features.block(stage + 1, 0)] < 0.0).all()
