import pytest

from sparsesearch.schedule.methods import FastSlow, Fuse, Merge
from sparsesearch.space.shape import MIN_WEIGHT, LocatedMethod, Method, Shape, ShapeStep


def test_exponents_are_scaled_to_the_stage_that_drops_most():
    steps = [
        ShapeStep(stage=s, block=b, weight=w, reducer=FastSlow()) for s, b, w in [(1, 0, 1.0), (2, 0, 1.0), (2, 4, 3.0)]
    ]
    assert Shape(steps=steps).exponents == (0.25, 0.25, 1.0)
    assert Shape(steps=steps, monotone=False).exponents == pytest.approx((1 / 3, 1 / 3, 1.0))


def test_a_merge_belongs_to_the_method_before_it():
    placed = [
        LocatedMethod((0, 2), Method(reducer=Fuse()), 1.0, Merge(), 0.25),
        LocatedMethod((0, 5), Method(reducer=Merge()), 0.5),
    ]
    shape = Shape.of_methods(placed)
    assert [step.reducer.kind for step in shape.steps] == ["fuse", "merge", "merge"]
    assert shape.weights == (0.75, 0.25, 0.5)
    assert shape.located_methods == tuple(placed)


def test_canonical_form_keeps_a_merge_alive():
    shape = Shape.of_methods(
        [LocatedMethod((0, 2), Method(), 4.0, Merge(), 1e-4), LocatedMethod((0, 5), Method(), 1e-3)]
    ).canonical()
    assert shape.weights == pytest.approx((1.0 - MIN_WEIGHT, MIN_WEIGHT, MIN_WEIGHT))


def test_the_schedule_of_a_shape():
    shape = Shape.at([1, 2, 3], stage=2, method=Method(reducer=FastSlow(fast_path="identity")))
    schedule = shape.schedule([0.7, 0.5, 0.3])
    assert [(s.stage, s.block, s.keep_ratio, s.reducer.fast_path) for s in schedule.steps] == [
        (2, 1, 0.7, "identity"),
        (2, 2, 0.5, "identity"),
        (2, 3, 0.3, "identity"),
    ]


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([ShapeStep(block=3), ShapeStep(block=2)], "sorted"),
        ([ShapeStep(stage=1, block=0, reducer=FastSlow()), ShapeStep(block=2)], "sorted"),
        ([ShapeStep(block=3), ShapeStep(block=3)], "only a merge after"),
        ([ShapeStep(block=3, reducer=Merge()), ShapeStep(block=3, reducer=Merge())], "only a merge after"),
    ],
)
def test_malformed_shapes_are_refused(steps, said):
    with pytest.raises(ValueError, match=said):
        Shape(steps=steps)


def test_only_slow_shares_may_rise():
    with pytest.raises(ValueError, match="set monotone for"):
        Shape(steps=[ShapeStep(block=3)], monotone=False)


def test_one_block_may_act_in_both_phases():
    assert len(Shape(steps=[ShapeStep(block=3), ShapeStep(block=3, phase="before_ffn")]).steps) == 2
