import json
import math
import subprocess
import sys

import pytest

from sparsesearch.budget.feasible import attainable
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.errors import BudgetError
from sparsesearch.schedule import Schedule
from sparsesearch.search.samplers.factory import make_proposer
from sparsesearch.space.definition import SearchSpace
from sparsesearch.study.trial import Fidelity, Origin, Proposal, TrialState

SPACE = SearchSpace(max_predictors=4)
SAMPLERS = ["evolution", "tpe", "random", "nsga2"]
RANGES = [(None, 3_000_000_000), (1_500_000_000, 3_000_000_000)]


def proposer(geometry, *, sampler="tpe", low=None, high=3_000_000_000, seed=0, space=SPACE):
    return make_proposer(sampler, geometry, space.resolve(geometry), low=low, high=high, seed=seed)


def landscape(geometry, schedule):
    """A made-up accuracy: dropping much at once costs much, and early drops cost more."""
    alive, loss = geometry.stages[0].num_tokens, 0.0
    for step in schedule.resolve(geometry):
        drop = math.log(alive / step.num_tokens)
        loss += 0.02 * math.exp(-step.block / 3.0) * drop + 0.01 * drop**2
        alive = step.num_tokens
    return 0.8 - loss


def run(search, geometry, make_trial, *, start=0, stop):
    trials = []
    for index in range(start, stop):
        schedule, proposal = search.propose(index)
        trial = make_trial(
            geometry, number=index, schedule=schedule, top1=landscape(geometry, schedule), proposal=proposal
        )
        search.tell(trial)
        trials.append(trial)
    return trials


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_proposals_are_new_and_within_the_budget(deit_small, make_trial, sampler, low, high):
    trials = run(proposer(deit_small, sampler=sampler, low=low, high=high), deit_small, make_trial, stop=40)
    assert len({trial.key for trial in trials}) == 40
    least = 0.99 * (low or high)
    assert all(least <= trial.cost.macs <= high for trial in trials)
    assert [trial.proposal.seen for trial in trials] == [tuple(range(index)) for index in range(40)]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_a_rebuilt_proposer_goes_on_exactly_alike(deit_small, make_trial, sampler, low, high):
    trials = run(proposer(deit_small, sampler=sampler, low=low, high=high), deit_small, make_trial, stop=45)
    for cut in (1, 15, 30):
        again = proposer(deit_small, sampler=sampler, low=low, high=high)
        for trial in trials[:cut]:
            again.tell(trial)
            again.tell(trial)
        replayed = run(again, deit_small, make_trial, start=cut, stop=min(cut + 15, 45))
        assert replayed == trials[cut : cut + 15]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_results_depend_on_the_set_of_trials_not_on_their_order(deit_small, make_trial, sampler):
    trials = run(proposer(deit_small, sampler=sampler), deit_small, make_trial, stop=60)
    ahead, back = proposer(deit_small, sampler=sampler), proposer(deit_small, sampler=sampler)
    for there, here in zip(trials, reversed(trials), strict=True):
        ahead.tell(there)
        back.tell(here)
    for index in range(60, 70):
        assert ahead.propose(index) == back.propose(index)


def test_proposals_under_way_push_the_next_away(deit_small, make_trial):
    trials = run(proposer(deit_small), deit_small, make_trial, stop=30)
    alone, busy = proposer(deit_small), proposer(deit_small)
    for trial in trials:
        alone.tell(trial)
        busy.tell(trial)
    for index in range(30, 40):
        busy.propose(index)
    assert alone.propose(40) != busy.propose(40)


SCRIPT = """
import json, sys
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.search.samplers.factory import make_proposer
from sparsesearch.space.definition import SearchSpace
from sparsesearch.study.trial import Trial
told = json.load(sys.stdin)
geometry = BackboneGeometry.model_validate(told["geometry"])
search = make_proposer(told["sampler"], geometry, SearchSpace(max_predictors=4).resolve(geometry),
                       low=told["low"], high=told["high"], seed=0)
for trial in told["trials"]:
    search.tell(Trial.model_validate_json(trial))
schedule, proposal = search.propose(len(told["trials"]))
assert not {"torch", "timm", "ray", "mlflow"} & set(sys.modules)
print(json.dumps([schedule.model_dump(mode="json"), proposal.model_dump(mode="json")]))
"""


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_another_process_goes_on_exactly_alike(deit_small, make_trial, sampler):
    low, high = RANGES[1]
    search = proposer(deit_small, sampler=sampler, low=low, high=high)
    trials = run(search, deit_small, make_trial, stop=30)
    document = {
        "geometry": deit_small.model_dump(mode="json"),
        "low": low,
        "high": high,
        "sampler": sampler,
        "trials": [trial.model_dump_json() for trial in trials],
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps(document), capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    schedule, proposal = json.loads(done.stdout)
    assert (Schedule.model_validate(schedule), Proposal.model_validate(proposal)) == search.propose(30)


def test_seeds_differ_by_study_and_index(deit_small):
    found = [proposer(deit_small, seed=seed).propose(index) for seed in (0, 1) for index in (0, 1)]
    assert len({schedule.key(deit_small) for schedule, _ in found}) == 4
    assert len({proposal.seed for _, proposal in found}) == 4


@pytest.mark.parametrize("sampler", ["evolution", "tpe", "nsga2"])
def test_samplers_learn(deit_small, make_trial, sampler):
    """After the first, random proposals come better ones."""
    early, late = 0.0, 0.0
    for seed in range(3):
        search = proposer(deit_small, sampler=sampler, high=1_800_000_000, seed=seed)
        scores = [trial.metrics["val_top1"] for trial in run(search, deit_small, make_trial, stop=60)]
        early += sum(scores[:20]) / 20
        late += sum(scores[20:]) / 40
    assert late > early + 0.03


def test_even_proposals_cover_the_range(deit_small):
    low, high = RANGES[1]
    search = proposer(deit_small, low=low, high=high)
    found = [search.propose(index)[1].params["budget"] for index in range(0, 40, 2)]
    shares = sorted((value * 1e9 - low) / (high - low) for value in found)
    assert max(b - a for a, b in zip([0.0, *shares], [*shares, 1.0], strict=True)) < 0.15


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_proposals_under_way_are_not_repeated_and_can_be_rebuilt(deit_small, make_trial, sampler):
    search = proposer(deit_small, sampler=sampler)
    trials = run(search, deit_small, make_trial, stop=22)
    under_way = [search.propose(index) for index in range(22, 26)]
    assert len({schedule.key(deit_small) for schedule, _ in under_way} | {t.key for t in trials}) == 26
    assert all(proposal.seen == tuple(range(22)) for _, proposal in under_way)
    again = proposer(deit_small, sampler=sampler)
    waiting = [
        make_trial(deit_small, number=22 + i, schedule=schedule, top1=None, proposal=proposal, state=TrialState.RUNNING)
        for i, (schedule, proposal) in enumerate(under_way)
    ]
    late = make_trial(deit_small, number=24, schedule=under_way[2][0], top1=0.9, proposal=under_way[2][1])
    for trial in [*trials, *waiting, late]:
        again.tell(trial)
    search.tell(late)
    assert search.propose(26) == again.propose(26)
    assert search.propose(27)[1].seen == (*range(22), 24)


def test_failed_and_stopped_trials_are_not_proposed_again(deit_small, make_trial):
    search, clean = proposer(deit_small), proposer(deit_small)
    first = clean.propose(0)
    states = [TrialState.FAILED, TrialState.STOPPED]
    for number, state in enumerate(states):
        schedule, _ = proposer(deit_small).propose(number)
        search.tell(make_trial(deit_small, number=number, schedule=schedule, top1=0.1, state=state))
    search.tell(make_trial(deit_small, number=2, schedule=Schedule.at([4], [0.4]), top1=math.nan))
    search.tell(make_trial(deit_small, number=3, schedule=Schedule.at([4], [0.5]), top1=None))
    schedule, proposal = search.propose(0)
    assert schedule != first[0]
    assert proposal.seen == (0, 1, 2, 3)


def test_baselines_teach_and_foreign_ones_do_no_harm(deit_small, make_trial):
    few = SearchSpace(max_predictors=2)
    search = proposer(deit_small, space=few)
    inside = Schedule.at([3, 8], [0.6, 0.3])
    foreign = Schedule.at([3, 6, 9], [0.7, 0.49, 0.34])
    for number, schedule in enumerate([inside, foreign]):
        search.tell(make_trial(deit_small, number=number, schedule=schedule, top1=0.7, origin=Origin.BASELINE))
    dense = make_trial(deit_small, number=2, schedule=Schedule(), top1=0.8, origin=Origin.REFERENCE)
    search.tell(dense)
    assert search.propose(0)[1].seen == (0, 1)


def test_fidelities_are_never_mixed(deit_small, make_trial):
    search = proposer(deit_small)
    search.tell(make_trial(deit_small, number=0, schedule=Schedule.at([3], [0.5]), top1=0.7))
    other = make_trial(deit_small, number=1, schedule=Schedule.at([4], [0.5]), top1=0.7, fidelity=Fidelity.FINETUNE)
    with pytest.raises(ValueError, match="fidelity"):
        search.tell(other)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_exhausted_space_proposes_nothing(tiny, make_trial, sampler):
    """One step before block 1 or 2 over four tokens at one budget leaves a handful of models."""
    space = SearchSpace(blocks=(1, 2), max_predictors=2)
    _, most = attainable(tiny, space.resolve(tiny))
    search = proposer(tiny, sampler=sampler, space=space, high=most)
    keys = []
    for index in range(50):
        proposed = search.propose(index)
        if proposed is None:
            break
        schedule, proposal = proposed
        keys.append(schedule.key(tiny))
        search.tell(make_trial(tiny, number=index, schedule=schedule, top1=0.5, proposal=proposal))
    assert 1 <= len(keys) == len(set(keys)) < 10
    assert search.propose(50) is None


def test_large_studies_show_the_sampler_the_newest_and_the_best(deit_small, make_trial):
    search = proposer(deit_small)
    for number in range(700):
        first, second = 196 - number % 100, 90 - number // 100
        schedule = Schedule.at([1 + number % 3, 7], [first / 196, second / 196])
        top1 = 0.9 if number % 50 == 7 else 0.5
        search.tell(make_trial(deit_small, number=number, schedule=schedule, top1=top1))
        if number == 520:
            search.propose(0)
    visible = search._shown()
    assert len(visible) <= 500
    assert sum(frozen.values == [0.9] for frozen in visible if frozen.values) == 14
    assert search.propose(1)[1].seen == tuple(range(700))


def test_out_of_reach_is_refused_at_once(deit_small):
    for low, high in [(None, 100_000_000), (100_000_000, 3_000_000_000)]:
        with pytest.raises(BudgetError, match="feasible range"):
            proposer(deit_small, low=low, high=high)


def test_nothing_is_printed(deit_small, make_trial, capfd):
    run(proposer(deit_small, sampler="nsga2"), deit_small, make_trial, stop=25)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_told_cost_is_the_schedules_own(deit_small, make_trial):
    search = proposer(deit_small, low=1_500_000_000)
    schedule, proposal = search.propose(1)
    price = AnalyticCost().estimate(deit_small, schedule).macs
    assert price <= round(proposal.params["budget"] * 1e9)


def test_the_gaussian_process_of_optuna(deit_small, make_trial):
    """Few, for it is slow: the first ten are random."""
    trials = run(proposer(deit_small, sampler="gp"), deit_small, make_trial, stop=13)
    again = proposer(deit_small, sampler="gp")
    for trial in trials[:12]:
        again.tell(trial)
    assert run(again, deit_small, make_trial, start=12, stop=13) == trials[12:]
