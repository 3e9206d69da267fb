import math

import numpy as np
import pytest

from sparsesearch.search.samplers.acquisition import Gain, expected_area, expected_improvement
from sparsesearch.search.samplers.kernel import Observations
from sparsesearch.search.samplers.likelihood import choose_settings
from sparsesearch.search.samplers.predictor import Predictor, on_error_scale
from sparsesearch.search.samplers.visible import best, gaps_to_front, split


def smooth(x_NF):
    return 0.8 - 0.1 * x_NF[:, 0] - 0.05 * x_NF[:, 1] ** 2


def observed(num, *, noise=0.0, seed=0, source=0, shift=0.0):
    rng = np.random.default_rng(seed)
    x_NF = rng.uniform(-1.0, 1.0, (num, 3))
    y_N = smooth(x_NF) + shift + noise * rng.standard_normal(num)
    return Observations(x_NF, y_N, np.full(num, source))


def joined(*parts):
    return Observations(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def test_it_predicts_a_smooth_function_and_knows_where_it_has_been():
    known = observed(40)
    predictor = Predictor(known, choose_settings(known))
    x_PF = np.random.default_rng(1).uniform(-1.0, 1.0, (50, 3))
    mean, deviation = predictor.predict(x_PF)
    assert np.abs(mean - smooth(x_PF)).max() < 0.01
    np.testing.assert_allclose(mean, predictor.mean(x_PF))
    np.testing.assert_allclose(predictor.known_mean_N, predictor.mean(known.x_NF))
    at_known, sure = predictor.predict(known.x_NF)
    assert np.abs(at_known - known.y_N).max() < 2e-3
    assert sure.mean() < deviation.mean()
    _, far = predictor.predict(np.full((1, 3), 5.0))
    assert far[0] > 3 * deviation.max()


def test_errors_are_learned_by_their_size():
    halved = on_error_scale(np.array([0.2, 0.6, 0.8, 0.9]))
    np.testing.assert_allclose(np.diff(halved), [math.log(2.0)] * 3)
    assert np.isfinite(on_error_scale(np.array([0.0, 1.0]))).all()


def test_bad_schedules_do_not_drown_what_tells_good_ones_apart():
    """Errors that rise tenfold along one feature and by a fifth along another, as from dear to cheap schedules."""
    missed = {"plain": 0.0, "error": 0.0}
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x_NF = rng.uniform(0.0, 1.0, (360, 3))
        errors_N = 0.04 * 10.0 ** x_NF[:, 0] * 1.2 ** x_NF[:, 1]
        seen_N = 1.0 - errors_N[:60] * np.exp(0.02 * rng.standard_normal(60))
        good = np.arange(60, 360)[x_NF[60:, 0] < 0.1]
        for name, y_N in (("plain", seen_N), ("error", on_error_scale(seen_N))):
            known = Observations(x_NF[:60], y_N, np.zeros(60, dtype=int))
            mean_P = Predictor(known, choose_settings(known)).mean(x_NF[good])
            missed[name] += 1.0 - np.corrcoef(mean_P, -errors_N[good])[0, 1]
    assert missed["error"] < 0.5 * missed["plain"]


def test_pending_points_change_certainty_only():
    known = observed(20)
    settings = choose_settings(known)
    x_PF = np.random.default_rng(1).uniform(-1.0, 1.0, (5, 3))
    mean, deviation = Predictor(known, settings).predict(x_PF)
    mean_busy, deviation_busy = Predictor(known, settings, pending_PF=x_PF[:2]).predict(x_PF)
    np.testing.assert_allclose(mean_busy, mean, rtol=1e-9)
    assert (deviation_busy[:2] < 0.6 * deviation[:2]).all()
    assert (deviation_busy <= deviation + 1e-9).all()


def test_another_study_helps_whatever_its_level():
    own, other = observed(4), observed(40, seed=2, source=1, shift=0.17)
    both = joined(own, other)
    x_PF = np.random.default_rng(1).uniform(-1.0, 1.0, (50, 3))
    alone = np.abs(Predictor(own, choose_settings(own)).mean(x_PF) - smooth(x_PF)).mean()
    helped = np.abs(Predictor(both, choose_settings(both)).mean(x_PF) - smooth(x_PF)).mean()
    assert helped < 0.5 * alone
    assert helped < 0.01


def test_a_study_that_contradicts_is_overruled():
    own = observed(30)
    other = observed(40, seed=2, source=1)
    other = other._replace(y_N=-3.0 * other.y_N)
    both = joined(own, other)
    x_PF = np.random.default_rng(1).uniform(-1.0, 1.0, (50, 3))
    assert np.abs(Predictor(both, choose_settings(both)).mean(x_PF) - smooth(x_PF)).mean() < 0.03


def test_equal_accuracies_do_no_harm():
    known = Observations(np.random.default_rng(0).random((6, 3)), np.full(6, 0.5), np.zeros(6, dtype=int))
    mean, deviation = Predictor(known, choose_settings(known)).predict(np.zeros((2, 3)))
    np.testing.assert_allclose(mean, 0.5)
    assert np.isfinite(deviation).all()


@pytest.mark.parametrize("ratio", [-6.0, -4.001, -3.999, -1.0, 0.0, 2.5])
def test_expected_improvement_in_closed_form(ratio):
    value = expected_improvement(np.array([0.7 + 0.1 * ratio]), np.array([0.1]), best=0.7)[0]
    exact = 0.1 * (ratio * 0.5 * math.erfc(-ratio / math.sqrt(2)) + math.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi))
    assert value == pytest.approx(exact, rel=0.05, abs=1e-12)


def test_expected_area_is_the_mean_gain_of_the_hypervolume():
    front = [(0.5, 1.0), (0.7, 2.0), (0.75, 3.0)]
    rng = np.random.default_rng(0)
    for mean, deviation, cost in [(0.6, 0.1, 1.5), (0.76, 0.02, 2.5), (0.5, 0.3, 1.0)]:
        draws = mean + deviation * rng.standard_normal(200_000)
        gain = np.zeros(len(draws))
        for (top1, begin), end in zip(front, [2.0, 3.0, 4.0], strict=True):
            gain += np.maximum(end - max(begin, cost), 0.0) * np.maximum(draws - top1, 0.0)
        area = expected_area(
            np.array([mean]),
            np.array([deviation]),
            np.array([cost]),
            front_top1=np.array([t for t, _ in front]),
            front_costs=np.array([c for _, c in front]),
            limit=4.0,
        )
        assert area[0] == pytest.approx(gain.mean(), rel=0.02)


def test_gain_prefers_what_is_better_than_the_front_and_what_fills_a_gap():
    known = observed(30)
    costs = np.linspace(1.0, 2.0, 30)
    for low in (None, 1.0):
        predictor = Predictor(known, choose_settings(known))
        gain = Gain(predictor, costs_N=costs, low=low, limit=2.0)
        good, bad = np.array([[-1.0, 0.0, 0.0]]), np.array([[1.0, 1.0, 0.0]])
        at = np.array([1.5])
        assert gain(good, at)[0] > gain(bad, at)[0] >= 0.0
        assert (gain.gaps_N >= 0.0).all()
        assert gain.gaps_N.min() == 0.0


def test_gaps_to_front():
    top1, costs = np.array([0.7, 0.6, 0.8, 0.75]), np.array([2.0, 1.0, 3.0, 3.5])
    np.testing.assert_allclose(gaps_to_front(top1, costs), [0.0, 0.0, 0.0, 0.05])
    np.testing.assert_allclose(gaps_to_front(top1, None), [0.1, 0.2, 0.0, 0.05])


def test_visible_results_are_the_best_and_the_newest():
    assert split(100, most=100) == (100, 0)
    for num in range(101, 400):
        newest, count = split(num, most=100)
        assert newest + count <= 100
        assert newest >= 45
        assert split(num + 1, most=100)[0] - newest in (1, -9)
    top1 = np.array([0.1, 0.9, 0.5, 0.9, 0.2])
    np.testing.assert_array_equal(best(top1, None, count=2), [1, 3])
    np.testing.assert_array_equal(best(top1, np.array([1.0, 5.0, 2.0, 4.0, 3.0]), count=3), [0, 1, 2])
