import numpy as np

from sparsesearch.search.samplers.kernel import Observations
from sparsesearch.search.samplers.likelihood import choose_settings
from sparsesearch.search.samplers.steps import Columns


def observed(noise):
    rng = np.random.default_rng(0)
    x_NF = rng.uniform(-1.0, 1.0, (60, 3))
    smooth_N = 0.8 - 0.1 * x_NF[:, 0] - 0.05 * x_NF[:, 1] ** 2
    return Observations(x_NF, smooth_N + noise * rng.standard_normal(60), np.zeros(60, dtype=int))


def test_it_learns_whether_drops_or_what_is_left_matter():
    rng = np.random.default_rng(0)
    columns = Columns(depth_F=np.tile(np.arange(4) / 4, 2), is_drop_F=np.repeat([False, True], 4))
    dropped_NB = rng.exponential(0.5, (80, 4)) * rng.integers(2, size=(80, 4))
    left_NB = -np.cumsum(dropped_NB, axis=1)
    x_NF, source_N = np.concatenate([0.35 * left_NB, dropped_NB], axis=1), np.zeros(80, dtype=int)
    by_drops = -(dropped_NB**2).sum(axis=1)
    by_what_is_left = -np.exp(-left_NB[:, 0]) - 0.1 * left_NB[:, 3] ** 2
    drops = choose_settings(Observations(x_NF, by_drops, source_N), columns).weights_F
    left = choose_settings(Observations(x_NF, by_what_is_left, source_N), columns).weights_F
    assert drops[4] > 0.5
    assert left[4] < 0.5
    assert left[3] < 0.7 * left[0]


def test_noise_is_told_from_signal():
    assert choose_settings(observed(noise=0.0)).noise < choose_settings(observed(noise=0.05)).noise


def test_other_studies_may_differ_only_where_there_are_some():
    alone = observed(noise=0.0)
    joined = alone._replace(source_N=np.repeat([0, 1], 30))
    assert choose_settings(alone).strangeness == 0.0
    assert choose_settings(joined).strangeness > 0.0
