import pytest

from sparsesearch.evaluate.deadline import Deadline
from sparsesearch.schedule import Schedule
from sparsesearch.study.trial import Cost, Fidelity, Measurement, Origin, Trial, TrialState


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def deadline(clock, budget):
    return Deadline(started=1000.0, time_budget_s=budget, clock=clock)


def trial(fidelity, *seconds):
    return Trial(
        number=0,
        fidelity=fidelity,
        origin=Origin.SEARCH,
        label="search",
        schedule=Schedule(),
        key="0",
        cost=Cost(macs=1, params=1),
        seed=0,
        study="s",
        state=TrialState.COMPLETE,
        measurements=tuple(
            Measurement(step=i + 1, attempt=1, fidelity=fidelity, metrics={}, seconds=s, seed=0)
            for i, s in enumerate(seconds)
        ),
    )


def test_without_a_deadline_everything_may_start_and_nothing_stops(clock):
    free = deadline(clock, None)
    free.changed(trial(Fidelity.FINETUNE, 1e6))
    clock.now += 1e9
    assert all(free.may_start(fidelity) for fidelity in Fidelity)
    assert not any(free.cuts(fidelity) for fidelity in (Fidelity.DENSE, Fidelity.FINETUNE))
    assert not free.has_cut


def test_the_longest_trial_of_a_fidelity_tells_whether_another_ends_in_time(clock):
    kept = deadline(clock, 100.0)
    kept.changed(trial(Fidelity.FINETUNE, 10.0, 15.0))
    kept.changed(trial(Fidelity.FINETUNE, 1.0))
    clock.now = 1063.9  # 100 - 6 for closing - 1.2 * 25
    assert kept.may_start(Fidelity.FINETUNE)
    clock.now = 1064.1
    assert not kept.may_start(Fidelity.FINETUNE)
    assert kept.may_start(Fidelity.SUPERNET)
    clock.now = 1079.1  # screening leaves time for finalists
    assert not kept.may_start(Fidelity.SUPERNET)


def test_evaluations_that_share_a_pass_need_the_time_of_all(clock):
    kept = Deadline(started=1000.0, time_budget_s=100.0, clock=clock, evaluations_at_once=4)
    kept.changed(trial(Fidelity.SUPERNET, 5.0))
    kept.changed(trial(Fidelity.FINETUNE, 5.0))
    clock.now = 1049.9  # 80 - 6 for closing - 1.2 * 4 * 5
    assert kept.may_start(Fidelity.SUPERNET)
    clock.now = 1050.1
    assert not kept.may_start(Fidelity.SUPERNET)
    assert kept.may_start(Fidelity.FINETUNE)


@pytest.mark.parametrize(
    ("fidelity", "end"), [(Fidelity.DENSE, 50.0), (Fidelity.SUPERNET_TRAINING, 72.0), (Fidelity.FINETUNE, 90.0)]
)
def test_each_training_has_an_end(clock, fidelity, end):
    kept = deadline(clock, 100.0)
    clock.now = 1000.0 + end
    assert not kept.cuts(fidelity)
    assert not kept.has_cut
    clock.now += 0.1
    assert kept.cuts(fidelity)
    assert kept.has_cut
