"""What a report says of a study whose budget is one of milliseconds: costs are those, measured where they were."""

from __future__ import annotations

import pytest
from study_views import handcrafted, trial, view_of

from sparsesearch.analysis.baseline_comparison import compare_with_baselines
from sparsesearch.analysis.hypervolume_curve import hypervolume_curves
from sparsesearch.analysis.regret import regret_curves
from sparsesearch.analysis.view import StudyView
from sparsesearch.report.page import report_page
from sparsesearch.study.spec import Budget
from sparsesearch.study.trial import Fidelity, Origin, TrialState


@pytest.fixture
def view() -> StudyView:
    """Multiply-adds say the opposite of milliseconds. Dense: 80 % in 10 ms."""
    reference = trial(
        0, 1000, 0.8, fidelity=Fidelity.DENSE, origin=Origin.REFERENCE, state=TrialState.REFERENCE, predicted_ms=10.0
    )
    hand = handcrafted(1, 400, 0.4, budget_macs=None, predicted_ms=5.0)  # type: ignore[arg-type]
    found = [trial(2, 900, 0.6, predicted_ms=4.0), trial(3, 100, 0.7, predicted_ms=4.5, latency_ms=8.0)]
    return view_of([reference, hand, *found], budget=Budget(unit="ms", high=6.0))


def test_hypervolume_over_milliseconds(view: StudyView) -> None:
    (curve,) = hypervolume_curves(view)
    # (5 * 0.4), then (6 * 0.6), then 2 * 0.1 more, of 10.
    assert [point.value for point in curve.points] == pytest.approx([20, 36, 38])
    assert curve.points[-1].value == view.hypervolume


def test_hand_schedules_at_their_milliseconds(view: StudyView) -> None:
    (curve,) = regret_curves(view)
    assert (curve.axis, curve.budgets, curve.baseline) == ("ms", (5.0,), (0.4,))
    assert [point.mean for point in curve.points] == pytest.approx([-0.2, -0.2]), "the third is too slow when measured"
    (row,) = compare_with_baselines(view)
    assert row.searched is not None
    assert row.searched.number == 2


def test_the_page_says_milliseconds(view: StudyView) -> None:
    page = report_page(view)
    assert "<td>5 ms</td>" in page
    assert "latency per call, ms (measured where confirmed, otherwise predicted)" in page
    assert "4 ms predicted" in page
