"""Rank correlations against numbers worked out by hand, and against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr
from study_views import dense, trial, view_of

from sparsesearch.analysis.agreement import agreement
from sparsesearch.analysis.rank_correlation import kendall_tau, spearman_rho
from sparsesearch.study.trial import Fidelity, TrialState


def test_worked_out_by_hand() -> None:
    # Pairs of (1,1) (2,3) (3,2) (4,4): one of six is the other way round; squared rank differences 0 + 1 + 1 + 0.
    assert kendall_tau([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx((5 - 1) / 6)
    assert spearman_rho([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(1 - 6 * 2 / (4 * 15))
    # A tie on one side: 3 pairs, one tied, two alike.
    assert kendall_tau([1, 2, 3], [5, 5, 9]) == pytest.approx(2 / np.sqrt(3 * 2))
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == -1
    assert spearman_rho([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)


@pytest.mark.parametrize("seed", range(10))
def test_agrees_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.integers(0, 8, 30).astype(float), rng.integers(0, 8, 30).astype(float)
    assert kendall_tau(one, other) == pytest.approx(kendalltau(one, other).statistic)
    assert spearman_rho(one, other) == pytest.approx(spearmanr(one, other).statistic)


@pytest.mark.parametrize("measure", [kendall_tau, spearman_rho])
def test_where_there_is_none(measure: object) -> None:
    assert callable(measure)
    assert measure([], []) is None
    assert measure([1.0], [2.0]) is None
    assert measure([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    with pytest.raises(ValueError, match="differ in length"):
        measure([1.0, 2.0], [1.0])


def test_the_same_schedules_measured_both_ways() -> None:
    screened = [trial(1, 300, 0.5, key="a"), trial(2, 500, 0.6, key="b"), trial(3, 400, 0.7, key="c")]
    tuned = [
        trial(4, 300, 0.70, key="a", fidelity=Fidelity.FINETUNE),
        trial(5, 500, 0.72, key="b", fidelity=Fidelity.FINETUNE),
        trial(6, 400, 0.71, key="c", fidelity=Fidelity.FINETUNE),
        trial(7, 350, 0.90, key="d", fidelity=Fidelity.FINETUNE),
        trial(8, 900, 0.10, key="e", fidelity=Fidelity.FINETUNE, state=TrialState.STOPPED),
    ]
    found = agreement(view_of([dense(), *screened, *tuned]))
    assert found is not None
    assert [(a.number, b.number) for a, b in found.pairs] == [(1, 4), (2, 5), (3, 6)]
    assert found.tau == pytest.approx(1 / 3)  # 0.5 0.6 0.7 against 70 72 71
    assert found.rho == pytest.approx(0.5)
    assert found.tau_macs == pytest.approx(1.0)  # 300 500 400 against 70 72 71


def test_one_schedule_is_too_few() -> None:
    tuned = trial(2, 300, 0.7, key="a", fidelity=Fidelity.FINETUNE)
    assert agreement(view_of([dense(), trial(1, 300, 0.5, key="a"), tuned])) is None
