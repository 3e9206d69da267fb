import pytest

from sparsesearch.errors import SpaceError
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.schedule.methods import NormScorer
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.encoding import decode, encode, parameters, shape_of

GEOMETRY = BackboneGeometry(
    name="vit",
    image_size=(224, 224),
    stages=(StageGeometry(depth=12, dim=384, attn_dim=384, num_heads=6, mlp_dim=1536, grid=(14, 14)),),
    stem_macs=0,
    head_macs=0,
    params=0,
)
SPACE = SearchSpace(max_predictors=3).resolve(GEOMETRY)


def test_parameters_are_ordered_and_leave_out_what_cannot_vary():
    names = [parameter.name for parameter in parameters(SPACE)]
    assert names == ["predictors", "position_0", "position_1", "position_2", "weight_0", "weight_1", "weight_2"]
    single = SearchSpace(blocks=(3,), max_predictors=1).resolve(GEOMETRY)
    assert parameters(single) == ()
    assert decode({}, space=single).blocks == (3,)


def test_two_ways_of_writing_one_model_have_the_same_parameters():
    first = Schedule.at([3, 6], [0.7, 0.5])
    second = Schedule.at([1, 3, 5, 6], [1.0, 137 / 196, 137 / 196, 0.5])
    assert encode(first, geometry=GEOMETRY, space=SPACE) == encode(second, geometry=GEOMETRY, space=SPACE)


def test_idle_slots_do_not_matter_when_decoding():
    params = encode(Schedule.at([3], [0.5]), geometry=GEOMETRY, space=SPACE)
    assert params["predictors"] == 1
    changed = {**params, "position_1": 1, "weight_2": 0.1, "weight_0": 0.3}
    assert decode(changed, space=SPACE) == decode(params, space=SPACE)


def test_disordered_positions_decode_to_rising_blocks():
    params = {"predictors": 3, "position_0": 9, "position_1": 9, "position_2": 2}
    assert decode(params, space=SPACE).blocks == (3, 10, 11)


def test_hand_family_encodes_to_nearly_equal_weights():
    params = encode(Schedule.at([3, 6, 9], [0.7, 0.49, 0.343]), geometry=GEOMETRY, space=SPACE)
    assert [params[f"position_{i}"] for i in range(3)] == [2, 5, 8]
    assert all(params[f"weight_{i}"] > 0.98 for i in range(3))


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(),
        Schedule.at([3], [1.0]),
        Schedule(steps=(Step(block=3, keep_ratio=0.5), Step(block=3, keep_ratio=0.4))),
    ],
)
def test_schedules_that_are_no_shape_are_refused(schedule):
    with pytest.raises(SpaceError, match="is not a valid shape"):
        shape_of(schedule, geometry=GEOMETRY)


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule.at([0], [0.5]),
        Schedule.at([1, 2, 3, 4], [0.9, 0.8, 0.7, 0.6]),
        Schedule(steps=(Step(block=3, keep_ratio=0.5, scorer=NormScorer()),)),
        Schedule(steps=(Step(block=3, keep_ratio=0.5), Step(block=4, keep_ratio=0.4, scorer=NormScorer()))),
        Schedule(steps=(Step(block=3, keep_ratio=0.5, phase="before_ffn"),)),
    ],
)
def test_schedules_outside_the_space_are_refused(schedule):
    with pytest.raises(SpaceError, match="outside the search space"):
        encode(schedule, geometry=GEOMETRY, space=SPACE)
