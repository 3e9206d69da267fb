"""What a fit is made of and what it says, on devices that are made up and so known exactly."""

import numpy as np
import pytest
from latency_samples import made_up_confirmation, made_up_fit, made_up_profile
from sample_study import DEIT_SMALL
from scipy.optimize import nnls

from sparsesearch.budget.solve import fit_to_budget
from sparsesearch.cost.latency_model import LatencyModel, LatencyPrice
from sparsesearch.errors import ProfileError
from sparsesearch.latency.nonnegative import solve_nonnegative
from sparsesearch.latency.profile.design import design, tile_counts
from sparsesearch.latency.profile.document import Profile, parse_profile, read_profile, write_profile
from sparsesearch.latency.profile.profiled_methods import all_methods, default_methods
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.schedule.methods import Merge, Prune
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.shape import Shape, ShapeStep
from sparsesearch.study.latency_fit import Curve

CONVNEXT = BackboneGeometry(
    name="convnext_like",
    image_size=(64, 64),
    stages=(
        StageGeometry(depth=2, dim=8, attn_dim=0, num_heads=0, mlp_dim=32, grid=(16, 16), num_prefix_tokens=0,
                      has_class_token=False, mixer="convolution", mixer_macs=100),
        StageGeometry(depth=6, dim=16, attn_dim=0, num_heads=0, mlp_dim=64, grid=(8, 8), num_prefix_tokens=0,
                      has_class_token=False, mixer="convolution", mixer_macs=100),
    ),
    stem_macs=10,
    head_macs=10,
    params=1000,
)  # fmt: skip
SPACE = SearchSpace().resolve(DEIT_SMALL)


@pytest.mark.parametrize("seed", range(5))
def test_the_solver_finds_what_scipy_finds(seed):
    rng = np.random.default_rng(seed)
    design_RC = np.concatenate([rng.uniform(0, 1, (40, 25)), 1e-2 * np.eye(25)])
    target = rng.normal(0.5, 1.0, len(design_RC))
    ours, (theirs, _) = solve_nonnegative(design_RC, target), nnls(design_RC, target)
    assert (ours >= 0).all()
    assert np.linalg.norm(design_RC @ ours - target) == pytest.approx(np.linalg.norm(design_RC @ theirs - target))
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_a_curve_is_the_sum_of_its_terms():
    curve = Curve(offset=1, constant=2.0, linear=0.5, quadratic=0.1, steps=((8, 3.0),), rises=((8, 9, 7.0),))
    values = curve.values(20)
    assert len(values) == 21
    assert values[7] == pytest.approx(2.0 + 0.5 * 8 + 0.1 * 64 + 3.0)
    assert values[8] == pytest.approx(2.0 + 0.5 * 9 + 0.1 * 81 + 6.0 + 7.0)
    for bad in ({"linear": -1.0}, {"steps": ((8, -1.0),)}, {"rises": ((9, 8, 1.0),)}):
        with pytest.raises(ValueError, match=r"greater than|at least 0"):
            Curve.model_validate(bad)


@pytest.mark.parametrize("geometry", [DEIT_SMALL, CONVNEXT], ids=lambda geometry: geometry.name)
def test_a_device_of_steps_is_learned_from_its_profile(geometry):
    truth = made_up_fit(geometry)
    profile = made_up_profile(geometry, truth)
    assert profile.fit.error.num_schedules == 12
    assert profile.fit.error.mean < 0.01
    assert profile.fit.error.worst < 0.03


def test_steps_are_found_where_they_are():
    truth = made_up_fit(DEIT_SMALL, tile=32)
    fitted, true = (LatencyModel(fit) for fit in (made_up_profile(DEIT_SMALL, truth).fit, truth))
    schedules = [Schedule.at([1], [count / 196]) for count in (126, 127, 128)]
    ms = [fitted.predict(DEIT_SMALL, schedule) for schedule in schedules]
    below, above = (true.predict(DEIT_SMALL, schedule) for schedule in schedules[1:])
    assert ms[2] - ms[1] > 0.8 * (above - below) > 8 * (ms[1] - ms[0])


def test_noise_is_stated_and_drift_is_divided_out():
    truth = made_up_fit(DEIT_SMALL)
    calm = made_up_profile(DEIT_SMALL, truth)
    drifting = made_up_profile(DEIT_SMALL, truth, speed=lambda group: 1.0 + 0.5 * (group % 2))
    assert drifting.drift == pytest.approx(1.5)
    assert drifting.fit.error.mean == pytest.approx(calm.fit.error.mean, abs=1e-6)
    noisy = made_up_profile(DEIT_SMALL, truth, noise=0.05)
    assert 0.01 < noisy.fit.error.mean < 0.1
    assert noisy.fit.error.margin > calm.fit.error.margin


def test_proposals_end_on_the_cheap_side_of_a_step():
    price = LatencyPrice(made_up_fit(DEIT_SMALL, margin=0.0))
    shape = Shape(steps=(ShapeStep(block=3, scorer=None),))
    dense = price.of(DEIT_SMALL, Schedule())
    schedule = fit_to_budget(DEIT_SMALL, SPACE, shape=shape, limit=0.7 * dense, price=price)
    (step,) = schedule.resolve(DEIT_SMALL)
    assert (step.num_tokens + 1) % 16 == 0
    assert price.of(DEIT_SMALL, schedule) <= 0.7 * dense
    more = Schedule.at([3], [(step.num_tokens + 1) / 196])
    assert price.of(DEIT_SMALL, more) > 0.7 * dense


def test_a_price_includes_the_margin_but_not_for_the_dense_model():
    fit = made_up_fit(DEIT_SMALL, margin=0.1)
    schedule = Schedule.at([3, 6], [0.7, 0.5])
    assert LatencyPrice(fit).of(DEIT_SMALL, schedule) == pytest.approx(
        1.1 * LatencyModel(fit).predict(DEIT_SMALL, schedule)
    )
    assert LatencyPrice(fit).of(DEIT_SMALL, Schedule()) == fit.dense_ms
    assert LatencyPrice(fit) == LatencyPrice(fit.model_copy())
    assert LatencyPrice(fit) != LatencyPrice(made_up_fit(DEIT_SMALL, margin=0.2))


def test_what_was_not_measured_is_refused_with_the_remedy():
    model = LatencyModel(made_up_fit(DEIT_SMALL))
    odd = Schedule(steps=(Step(block=3, keep_ratio=0.5, reducer=Merge(metric="tokens")),))
    with pytest.raises(ProfileError, match=r"lacks 'stage 0 keep merge.*--methods all"):
        model.predict(DEIT_SMALL, odd)
    with pytest.raises(ProfileError, match=r"not of convnext_like at 64x64; make one with: sparsesearch profile"):
        model.predict(CONVNEXT, Schedule())


@pytest.mark.parametrize("geometry", [DEIT_SMALL, CONVNEXT], ids=lambda geometry: geometry.name)
def test_designs_touch_every_method_from_their_first_third_on(geometry):
    for methods in (default_methods(geometry), all_methods(geometry)):
        planned = design(geometry, methods)
        assert len({(one.schedule.key(geometry), one.num_tokens) for one in planned}) == len(planned)
        reducers = {step.reducer for one in planned for step in one.schedule.steps}
        assert {method.reducer for method in methods} <= reducers
        assert {one.role for one in planned[: len(planned) // 3]} >= {"grid", "whole", "held_out"}
        assert planned == design(geometry, methods)


def test_tiles_are_counted_with_the_prefix_tokens():
    counts = tile_counts(DEIT_SMALL.stages[0])
    assert {15, 16, 63, 64, 127, 128, 191, 192, 195} <= set(counts)
    assert tile_counts(CONVNEXT.stages[1])[:4] == [8, 9, 16, 17]


def test_profiles_survive_their_file(tmp_path):
    profile = made_up_profile(DEIT_SMALL, made_up_fit(DEIT_SMALL), noise=0.01)
    write_profile(profile, tmp_path / "p.json")
    assert read_profile(tmp_path / "p.json") == profile
    assert Profile.model_validate_json(profile.model_dump_json()) == profile
    assert "error on 12 held-out schedules" in "\n".join(profile.sentences())
    document = profile.model_dump(mode="json")
    with pytest.raises(ProfileError, match="version 2"):
        parse_profile({**document, "schema_version": 2}, what="x.json")
    with pytest.raises(ProfileError, match=r"x\.json is not a profile.*extra"):
        parse_profile({**document, "extra": 1}, what="x.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ProfileError, match="not valid JSON"):
        read_profile(tmp_path / "bad.json")
    with pytest.raises(ProfileError, match=r"no such file.*sparsesearch profile -o"):
        read_profile(tmp_path / "none.json")


def test_a_confirmed_latency_is_stated_at_the_speed_of_the_profile():
    slow = made_up_confirmation(3.0, dense_ms=6.0, reference_ms=4.0)
    assert (slow.ms, slow.drift) == (2.0, 1.5)
    assert made_up_confirmation(3.0, dense_ms=6.0).ms == 3.0


def test_pruning_costs_what_its_parts_cost():
    fit = made_up_fit(DEIT_SMALL)
    step = Step(block=2, keep_ratio=0.5, reducer=Prune())
    curves = fit.curves
    blocks = [curves[f"stage 0 {part}"].values(196) for part in ("attention", "mlp")]
    expected = curves["everything else"].constant + sum(2 * part[196] + 10 * part[98] for part in blocks)
    expected += curves["stage 0 score dynamicvit"].values(196)[196] + curves["stage 0 reduce prune"].values(196)[196]
    expected += curves["stage 0 keep prune"].values(196)[98]
    assert LatencyModel(fit).predict(DEIT_SMALL, Schedule(steps=(step,))) == pytest.approx(expected)
