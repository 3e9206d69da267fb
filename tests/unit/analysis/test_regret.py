"""Regret and comparison with hand-crafted schedules, worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from study_views import dense, handcrafted, trial, view_of

from sparsesearch.analysis.baseline_comparison import compare_with_baselines, comparison_sentence
from sparsesearch.analysis.pairs import paired_difference
from sparsesearch.analysis.regret import regret_curves
from sparsesearch.study.hits import Hits

HAND = [handcrafted(1, 390, 0.50, budget_macs=400), handcrafted(2, 780, 0.70, budget_macs=800)]


def test_regret_by_budget_and_its_mean() -> None:
    found = [trial(3, 700, 0.60), trial(4, 400, 0.45), trial(5, 300, 0.55), trial(6, 790, 0.75)]
    (curve,) = regret_curves(view_of([dense(), *HAND, *found]))
    assert curve.budgets == (400, 800)
    assert curve.baseline == (0.50, 0.70)
    assert [point.position for point in curve.points] == [3, 4, 5, 6]
    cheap, dear = zip(*(point.by_budget for point in curve.points), strict=True)
    assert cheap[0] is None
    assert cheap[1:] == pytest.approx((0.05, -0.05, -0.05))
    assert dear == pytest.approx((0.10, 0.10, 0.10, -0.05))
    assert curve.points[0].mean is None
    assert [point.mean for point in curve.points[1:]] == pytest.approx([0.075, 0.025, -0.05])


def test_a_cheaper_hand_schedule_counts_at_a_higher_budget_too() -> None:
    odd = [handcrafted(1, 390, 0.70, budget_macs=400), handcrafted(2, 780, 0.60, budget_macs=800)]
    (curve,) = regret_curves(view_of([dense(), *odd, trial(3, 800, 0.65)]))
    assert curve.baseline == (0.70, 0.70)
    assert curve.points[0].by_budget == (None, pytest.approx(0.05))


def test_no_regret_without_hand_or_without_search() -> None:
    assert regret_curves(view_of([dense(), trial(1, 400, 0.5)])) == ()
    assert regret_curves(view_of([dense(), *HAND])) == ()


def test_comparison_at_equal_budgets() -> None:
    found = [trial(3, 400, 0.52), trial(4, 401, 0.90), trial(5, 350, 0.52)]
    low, high = compare_with_baselines(view_of([dense(), *HAND, *found]))
    assert (low.budget, low.baseline.number) == (400, 1)
    assert low.searched is not None
    assert low.searched.number == 5, "of equals the cheaper"
    assert low.difference == pytest.approx(0.02)
    assert high.searched is not None
    assert high.searched.number == 4
    assert high.difference == pytest.approx(0.20)
    assert low.interval is None, "how many images there were is not recorded"


def test_noise_of_a_difference() -> None:
    hand = handcrafted(1, 390, 0.5, budget_macs=400, images=100.0)
    (row,) = compare_with_baselines(view_of([dense(), hand, trial(2, 380, 0.8, images=100.0)]))
    noise = 1.959964 * math.sqrt(0.5 * 0.5 / 100 + 0.8 * 0.2 / 100)
    assert row.interval == pytest.approx((0.3 - noise, 0.3 + noise))
    assert not row.is_paired
    assert row.is_better


def test_interval_of_a_difference_on_the_same_images() -> None:
    hand = handcrafted(1, 390, 0.80, budget_macs=400, images=100.0)
    view = view_of([dense(), hand, trial(2, 380, 0.83, images=100.0)])
    hits = {1: Hits.of([number < 80 for number in range(100)], images="confirm")}
    hits[2] = Hits.of([1 <= number < 84 for number in range(100)], images="confirm")
    (alone,), (row,) = compare_with_baselines(view), compare_with_baselines(replace(view, hits=hits))
    assert row.is_paired
    assert (row.interval, row.difference) == (
        (paired_difference(hits[2], hits[1]).low, paired_difference(hits[2], hits[1]).high),
        pytest.approx(0.03),
    )
    assert row.interval is not None
    assert alone.interval is not None
    assert row.interval[1] - row.interval[0] < 0.5 * (alone.interval[1] - alone.interval[0])
    assert not row.is_better
    assert not row.is_worse
    assert comparison_sentence([row]) == (
        "Within the budget of the hand-crafted schedules, the searched one is not distinguishable from the best of "
        "them."
    )


def test_hits_of_other_images_are_no_pairs() -> None:
    hand = handcrafted(1, 390, 0.80, budget_macs=400, images=100.0)
    view = view_of([dense(), hand, trial(2, 380, 0.83, images=100.0)])
    hits = {1: Hits.of([True] * 100, images="screen"), 2: Hits.of([True] * 100, images="confirm")}
    (row,) = compare_with_baselines(replace(view, hits=hits))
    assert not row.is_paired


def test_a_budget_that_no_searched_schedule_meets() -> None:
    low, _ = compare_with_baselines(view_of([dense(), *HAND, trial(3, 700, 0.6)]))
    assert low.searched is None
    assert low.difference is None
