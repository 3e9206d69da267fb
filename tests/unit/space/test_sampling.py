import numpy as np
import pytest
from geometries import DEIT_SMALL

from sparsesearch.schedule.methods import NormScorer
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.sampling import distinct_positions, draw_shape, mutate_shape
from sparsesearch.space.shape import MIN_WEIGHT, Method, Shape, canonical_weights

SPACE = SearchSpace(methods=(Method(), Method(scorer=NormScorer()))).resolve(DEIT_SMALL)


def test_equal_weights_are_the_powers_of_rho():
    shape = Shape.at((3, 6, 9), (2.0, 2.0, 2.0))
    assert shape.exponents == pytest.approx((1 / 3, 2 / 3, 1.0))
    assert shape.canonical().weights == (1.0, 1.0, 1.0)


def test_canonical_weights_keep_ratios_within_limits():
    assert canonical_weights([0.5, 0.25]) == (1.0, 0.5)
    assert canonical_weights([100.0, 1.0]) == (1.0, MIN_WEIGHT)
    assert canonical_weights([0.001]) == (1.0,)


@pytest.mark.parametrize(
    ("blocks", "weights"),
    [
        ((3, 3), (1.0, 1.0)),
        ((6, 3), (1.0, 1.0)),
        ((3,), (1.0, 1.0)),
        ((3,), (0.0,)),
        ((), ()),
        ((-1,), (1.0,)),
        ((3,), (float("nan"),)),
        ((3,), (float("inf"),)),
    ],
)
def test_malformed_shapes_are_refused(blocks, weights):
    with pytest.raises(ValueError, match=r"weight|rise|steps|block|greater"):
        Shape.at(blocks, weights)


@pytest.mark.parametrize(
    ("wished", "latest", "expected"),
    [
        ([2, 5, 8], None, (2, 5, 8)),
        ([8, 5, 2], None, (2, 5, 8)),
        ([5, 5, 5], None, (5, 6, 7)),
        ([10, 10, 10], None, (8, 9, 10)),
        ([0, 0], None, (0, 1)),
        ([6, 7], 3, (3, 7)),
    ],
)
def test_places_move_as_little_as_they_must(wished, latest, expected):
    assert distinct_positions(wished, num_locations=11, latest_first=latest) == expected


def test_draws_cover_the_space():
    rng = np.random.default_rng(0)
    drawn = [draw_shape(SPACE, rng=rng) for _ in range(500)]
    assert {block for shape in drawn for block in shape.blocks} == {block for _, block in SPACE.locations}
    assert {len(shape.blocks) for shape in drawn} == {1, 2, 3}
    assert {step.scorer.kind for shape in drawn for step in shape.steps} == {"dynamicvit", "norm"}


def test_mutations_change_every_part_sooner_or_later():
    rng = np.random.default_rng(0)
    shape = Shape.at((3, 6), (1.0, 0.5))
    found = [mutate_shape(shape, SPACE, rng=rng) for _ in range(200)]
    assert {len(other.blocks) for other in found} == {1, 2, 3}
    assert len({other.blocks for other in found}) > 10
    assert {step.scorer.kind for other in found for step in other.steps} == {"dynamicvit", "norm"}
    assert all(other.weights != shape.weights for other in found if len(other.blocks) > 1)
