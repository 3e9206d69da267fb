"""The curve of hypervolume, against areas worked out by hand. Dense: 80 % at 1,000; the whole area is 1,000."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_views import dense, handcrafted, trial, view_of

from sparsesearch.analysis.hypervolume_curve import hypervolume_curves
from sparsesearch.analysis.pareto import dominated_percent
from sparsesearch.study.trial import Fidelity


def test_worked_out_by_hand() -> None:
    view = view_of(
        [
            dense(),
            handcrafted(1, 500, 0.4, budget_macs=500),  # 500 * 0.4 = 200
            trial(2, 600, 0.3),  # dominated
            trial(3, 250, 0.2),  # + 250 * 0.2 = 50
            trial(4, 750, 0.8),  # + 250 * 0.4 = 100
        ]
    )
    (curve,) = hypervolume_curves(view)
    assert curve.fidelity is Fidelity.SUPERNET
    assert [point.value * 10 for point in curve.points] == pytest.approx([200, 200, 250, 350])
    assert [point.position for point in curve.points] == [1, 2, 3, 4]
    assert [point.seconds for point in curve.points] == [10.0, 20.0, 30.0, 40.0]
    assert curve.baseline == pytest.approx(20)
    assert [point.value * 10 for point in curve.searched] == pytest.approx([120, 190, 315])
    assert [point.value * 10 for point in curve.at_budgets] == pytest.approx([100]), "the others are above the budget"
    assert curve.points[-1].value == view.hypervolume


def test_fidelities_are_not_mixed() -> None:
    view = view_of([dense(), trial(1, 500, 0.4), trial(2, 500, 0.6, fidelity=Fidelity.FINETUNE, key="1")])
    screened, tuned = hypervolume_curves(view)
    assert (screened.fidelity, tuned.fidelity) == (Fidelity.SUPERNET, Fidelity.FINETUNE)
    assert [point.value for point in screened.points] == pytest.approx([20])
    assert [point.value for point in tuned.points] == pytest.approx([30])
    assert tuned.points[-1].value == view.hypervolume
    assert tuned.points[0].position == 2, "positions count on over both"
    assert screened.baseline is None


def test_nothing_to_compare_with() -> None:
    assert hypervolume_curves(view_of([trial(1, 500, 0.4)])) == ()
    assert hypervolume_curves(view_of([dense()])) == ()
    assert hypervolume_curves(view_of([dense(), handcrafted(1, 500, 0.4, budget_macs=500)])) == (), (
        "nothing is searched"
    )


def test_without_a_clock_the_numbers_order() -> None:
    (curve,) = hypervolume_curves(view_of([dense(), trial(1, 500, 0.4), trial(2, 400, 0.4)], clocked=False))
    assert [point.seconds for point in curve.points] == [None, None]
    assert [point.value for point in curve.points] == pytest.approx([20, 24])


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(1, 1200)), min_size=1, max_size=20))
def test_it_never_falls_and_ends_at_the_hypervolume_of_all(points: list[tuple[float, int]]) -> None:
    view = view_of([dense(), *(trial(i, macs, top1) for i, (top1, macs) in enumerate(points, start=1))])
    (curve,) = hypervolume_curves(view)
    values = [point.value for point in curve.points]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(dominated_percent([(a, float(m)) for a, m in points], dense_cost=1000.0))
