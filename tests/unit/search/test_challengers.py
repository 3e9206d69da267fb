"""Searched schedules that are fine-tuned because of hand-crafted ones."""

from __future__ import annotations

import pytest

from sparsesearch.schedule import Schedule
from sparsesearch.schedule.methods import Fuse
from sparsesearch.search.challengers import challengers, is_other
from sparsesearch.search.finalists import choose_finalists
from sparsesearch.study.metric import VAL_TOP1
from sparsesearch.study.trial import Origin

HAND = Schedule.at([3, 6, 9], [0.7, 0.5, 0.3])


@pytest.mark.parametrize(
    ("schedule", "is_different"),
    [
        (HAND, False),
        (Schedule.at([3, 6, 9], [0.72, 0.5, 0.3]), False),
        (Schedule.at([3, 6, 9], [0.78, 0.5, 0.3]), True),
        (Schedule.at([3, 6, 9], [0.7, 0.5, 0.26]), True),
        (Schedule.at([3, 6, 8], [0.7, 0.5, 0.3]), True),
        (Schedule.at([3, 6], [0.7, 0.5]), True),
        (Schedule.at([3, 6, 9], [0.7, 0.5, 0.3], reducer=Fuse()), True),
    ],
)
def test_what_counts_as_another_schedule(deit_small, schedule, is_different):
    assert is_other(schedule, HAND, deit_small) == is_different


@pytest.fixture
def trials(deit_small, make_trial):
    def make(points, *, origin=Origin.SEARCH, first=0):
        """Trials of these accuracies and costs, with steps at different blocks."""
        return [
            make_trial(
                deit_small,
                number=first + i,
                schedule=Schedule.at([1 + i % 11], [0.5]),
                top1=top1,
                macs=macs,
                origin=origin,
            )
            for i, (top1, macs) in enumerate(points)
        ]

    return make


def hand(deit_small, make_trial, *costs):
    return [
        make_trial(deit_small, number=90 + i, schedule=HAND, top1=0.7, macs=macs, origin=Origin.BASELINE)
        for i, macs in enumerate(costs)
    ]


def numbers(found):
    return [trial.number for trial in found]


def test_each_baseline_has_the_best_of_no_higher_cost(deit_small, make_trial, trials):
    searched = trials([(0.6, 300), (0.9, 505), (0.8, 495), (0.7, 400), (0.95, 1001)])
    baselines = hand(deit_small, make_trial, 500, 504, 400, 1000)
    found = challengers(searched, baselines, geometry=deit_small, metric=VAL_TOP1)
    assert numbers(found) == [1, 2, 3], "500 and 504 cost the same"


def test_what_is_like_a_baseline_is_no_challenger(deit_small, make_trial, trials):
    searched = trials([(0.6, 300)])
    copy = make_trial(deit_small, number=7, schedule=HAND, top1=0.9, macs=300)
    baselines = hand(deit_small, make_trial, 500)
    assert numbers(challengers([*searched, copy], baselines, geometry=deit_small, metric=VAL_TOP1)) == [0]
    assert challengers([copy], baselines, geometry=deit_small, metric=VAL_TOP1) == []


@pytest.mark.parametrize(("low", "rest"), [(None, [3]), (100, [3])])
def test_those_that_are_required_come_first_and_count(trials, low, rest):
    searched = trials([(0.6, 300), (0.7, 500), (0.5, 200), (0.9, 900)])
    required = [searched[0], searched[2]]
    assert numbers(choose_finalists(searched, count=3, low=low, high=1000, required=required)) == [0, 2, *rest]
    assert numbers(choose_finalists(searched, count=1, low=low, high=1000, required=required)) == [0, 2]
