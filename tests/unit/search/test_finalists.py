import math

import pytest

from sparsesearch.schedule import Schedule
from sparsesearch.search.finalists import choose_finalists, nearest_to_front
from sparsesearch.study.trial import Fidelity, TrialState


@pytest.fixture
def candidates(deit_small, make_trial):
    def make(points):
        return [
            make_trial(
                deit_small, number=i, schedule=Schedule.at([1 + i % 11], [(100 + i) / 196]), top1=top1, macs=macs
            )
            for i, (top1, macs) in enumerate(points)
        ]

    return make


def numbers(trials):
    return [trial.number for trial in trials]


def test_single_budget_takes_the_most_accurate_and_then_the_cheaper(candidates):
    trials = candidates([(0.7, 90), (0.9, 95), (0.9, 80), (0.8, 50), (0.95, 101)])
    assert numbers(choose_finalists(trials, count=3, low=None, high=100)) == [2, 1, 3]
    assert numbers(choose_finalists(trials[::-1], count=3, low=None, high=100)) == [2, 1, 3]


def test_only_complete_trials_with_a_number_take_part(candidates, deit_small, make_trial):
    trials = candidates([(0.7, 90), (math.nan, 90)])
    schedule = Schedule.at([3], [0.5])
    trials.append(make_trial(deit_small, number=8, schedule=schedule, top1=0.9, state=TrialState.FAILED, macs=90))
    trials.append(make_trial(deit_small, number=9, schedule=schedule, top1=None, macs=90))
    for low in (None, 50):
        assert numbers(choose_finalists(trials, count=3, low=low, high=100)) == [0]


def test_one_model_is_one_finalist(deit_small, make_trial):
    schedule = Schedule.at([3], [0.5])
    trials = [make_trial(deit_small, number=i, schedule=schedule, top1=0.5 + 0.1 * i, macs=90) for i in range(3)]
    assert numbers(choose_finalists(trials, count=3, low=None, high=100)) == [2]


def test_a_range_spreads_over_the_front(candidates):
    """Ten members crowd at the dear end; three finalists must not all come from there."""
    crowd = [(0.90 + 0.001 * i, 90 + i) for i in range(10)]
    trials = candidates([(0.60, 10), (0.80, 50), *crowd])
    assert [t.cost.macs for t in choose_finalists(trials, count=3, low=10, high=100)] == [99, 50, 10]


def test_finalists_of_a_range_are_denser_where_accuracy_changes(candidates):
    """It rises by 30 points over the first third of the range, hardly over the second, and not at all over the last."""
    steep = [(0.60 + 0.01 * i, 100 + i) for i in range(31)]
    flat = [(0.90 + 0.0001 * i, 130 + i) for i in range(1, 31)]
    nothing = [(0.80, 160 + i) for i in range(1, 31)]
    trials = candidates([*steep, *flat, *nothing])
    costs = [trial.cost.macs for trial in choose_finalists(trials, count=16, low=100, high=190)]
    assert costs == sorted(costs, reverse=True)
    assert (costs[0], costs[-1]) == (160, 100)
    assert sum(cost <= 130 for cost in costs) in (10, 11)


def test_below_a_range_lies_one_finalist_at_most(candidates):
    trials = candidates([(0.5 + 0.01 * i, 80 + 2 * i) for i in range(20)])
    costs = [trial.cost.macs for trial in choose_finalists(trials, count=4, low=101, high=118)]
    assert (costs[0], costs[-1]) == (118, 100)


def test_places_that_the_front_leaves_go_to_the_best_of_the_rest(candidates):
    trials = candidates([(0.9, 50), (0.8, 60), (0.7, 55), (0.5, 99), (0.4, 20)])
    assert numbers(choose_finalists(trials, count=4, low=10, high=100)) == [0, 4, 1, 2]
    assert numbers(choose_finalists(trials, count=5, low=10, high=100)) == [0, 4, 2, 1, 3]
    assert numbers(choose_finalists(trials, count=1, low=10, high=100)) == [0]


def test_nobody_to_choose_from():
    assert choose_finalists([], count=3, low=None, high=100) == []
    assert choose_finalists([], count=3, low=10, high=100) == []


def test_fidelities_are_never_mixed(deit_small, make_trial):
    schedule = Schedule.at([3], [0.5])
    trials = [
        make_trial(deit_small, number=i, schedule=schedule, top1=0.5, fidelity=fidelity)
        for i, fidelity in enumerate([Fidelity.SUPERNET, Fidelity.FINETUNE])
    ]
    with pytest.raises(ValueError, match="fidelities"):
        choose_finalists(trials, count=1, low=None, high=10**10)


def test_nearest_to_the_front(candidates):
    """On the front are 0, 3 and 5; below it are 1 by 0.02, 4 by 0.05 and 2 by 0.1; 6 is too expensive."""
    trials = candidates([(0.6, 10), (0.58, 20), (0.5, 30), (0.8, 50), (0.75, 60), (0.9, 90), (0.99, 101)])
    assert numbers(nearest_to_front(trials, count=9, high=100)) == [5, 3, 0, 1, 4, 2]
    assert numbers(nearest_to_front(trials, count=4, high=100)) == [5, 3, 0, 1]
    assert numbers(nearest_to_front(trials, count=2, high=100, required=[trials[2]])) == [2, 5]
