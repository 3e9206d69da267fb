import itertools

import numpy as np
import pytest
from geometries import DEIT_SMALL

from sparsesearch.budget.feasible import attainable
from sparsesearch.cost.analytic import AnalyticCost, dense_macs
from sparsesearch.errors import SpecError
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.methods import DynamicVitScorer, FastSlow, Fuse, Merge, NormScorer, Prune
from sparsesearch.search.samplers.evolution import EvolutionProposer
from sparsesearch.search.samplers.priors import MOST_PRIORS, best_at, collect_priors, make_priors, transferred
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.encoding import outside, shape_of
from sparsesearch.study.prior import Prior, PriorStep
from sparsesearch.study.spec import Budget, Resolved, StudySpec
from sparsesearch.study.trial import Fidelity, Origin, TrialState

SPACE = SearchSpace(max_predictors=3).resolve(DEIT_SMALL)


def made_up_top1(geometry, schedule):
    """Early drops cost more, and big ones."""
    loss, before = 0.0, {}
    for step in schedule.resolve(geometry):
        total, depth = geometry.stages[step.stage].num_tokens, geometry.stages[step.stage].depth
        drop = np.log(before.get(step.stage, total) / step.num_tokens)
        before[step.stage] = step.num_tokens
        loss += 0.05 * np.exp(-4.0 * step.block / depth) * abs(drop) + 0.02 * drop**2
    return 0.8 - loss


def run(proposer, make_trial, *, start=0, stop, delay=0, top1_of=made_up_top1):
    """Results come `delay` proposals late, and the last ones never."""
    trials, waiting = [], []
    for index in range(start, stop):
        proposed = proposer.propose(index)
        if proposed is None:
            break
        schedule, proposal = proposed
        top1 = top1_of(proposer.geometry, schedule)
        waiting.append(make_trial(proposer.geometry, number=index, schedule=schedule, top1=top1, proposal=proposal))
        trials.append(waiting[-1])
        if len(waiting) > delay:
            proposer.tell(waiting.pop(0))
    return trials


def best_gap(trials, limit):
    return max(t.metrics["val_top1"] for t in trials if t.cost.macs <= limit)


def test_a_steep_cheap_end_does_not_draw_everything(deit_small, make_trial):
    """The whole range is covered, where the cheapest tenth promises most by far."""
    low, high = (share * dense_macs(deit_small) for share in (0.35, 0.65))

    def cliff(geometry, schedule):
        share = (AnalyticCost().estimate(geometry, schedule).macs - low) / (high - low)
        return 0.1 + made_up_top1(geometry, schedule) - 0.5 * np.exp(-max(share, 0.0) / 0.03)

    proposer = EvolutionProposer(deit_small, SPACE, low=low, high=high, seed=0)
    trials = run(proposer, make_trial, stop=60, top1_of=cliff)
    num_by_fifth = np.histogram([trial.cost.macs for trial in trials[10:]], bins=5, range=(0.98 * low, high))[0]
    assert num_by_fifth.min() >= 3


def test_it_beats_random_search_of_the_same_length(deit_small, make_trial):
    limit = 2.2e9
    for seed in range(2):
        found = run(EvolutionProposer(deit_small, SPACE, low=None, high=limit, seed=seed), make_trial, stop=40)
        early, late = found[:10], found[10:]
        assert best_gap(late, limit) > best_gap(early, limit) + 0.002
        assert np.mean([t.metrics["val_top1"] for t in late]) > np.mean([t.metrics["val_top1"] for t in early])


@pytest.mark.parametrize("delay", [0, 3])
def test_it_goes_on_alike_when_it_is_built_again_with_results_outstanding(deit_small, make_trial, delay):
    def fresh():
        return EvolutionProposer(deit_small, SPACE, low=1.5e9, high=3e9, seed=4)

    whole = fresh()
    trials = run(whole, make_trial, stop=34, delay=delay)
    again = fresh()
    running = trials[34 - delay :]
    for trial in trials[: 34 - delay]:
        again.tell(trial)
    for trial in running:
        again.tell(trial.model_copy(update={"state": TrialState.RUNNING, "measurements": ()}))
    assert again.propose(34) == whole.propose(34)


def test_settings_are_chosen_from_the_same_results_whenever_asked(deit_small, make_trial):
    """One that was asked at every step, and one that was told everything at once."""
    trials = run(EvolutionProposer(deit_small, SPACE, low=1.5e9, high=3e9, seed=0), make_trial, stop=60)
    at_once = EvolutionProposer(deit_small, SPACE, low=1.5e9, high=3e9, seed=0)
    for trial in reversed(trials[:59]):
        at_once.tell(trial)
    schedule, proposal = at_once.propose(59)
    assert (schedule, proposal) == (trials[59].schedule, trials[59].proposal)


def test_budgets_of_a_front_are_spread(deit_small, make_trial):
    trials = run(EvolutionProposer(deit_small, SPACE, low=1.5e9, high=3e9, seed=0), make_trial, stop=60)
    shares = sorted((trial.cost.macs - 1.5e9) / 1.5e9 for trial in trials)
    assert -0.01 < shares[0] < 0.2
    assert 0.9 < shares[-1] <= 1.0
    assert max(later - earlier for earlier, later in itertools.pairwise(shares)) < 0.35


@pytest.mark.parametrize(
    "space",
    [
        SearchSpace(max_predictors=4, reducers=(Prune(), Fuse(), Merge()), methods_per="location"),
        SearchSpace(max_predictors=3, scorers=(DynamicVitScorer(), NormScorer()), merge_after_prune=True),
        SearchSpace(min_predictors=3, max_predictors=3, phases=("before_block", "before_ffn")),
    ],
)
def test_every_space_of_a_vit(deit_small, make_trial, space):
    proposer = EvolutionProposer(deit_small, space.resolve(deit_small), low=None, high=2.6e9, seed=0)
    trials = run(proposer, make_trial, stop=30)
    assert len({trial.key for trial in trials}) == 30
    for trial in trials:
        assert trial.cost.macs <= 2.6e9
        assert outside(shape_of(trial.schedule, geometry=deit_small), proposer.space) is None


@pytest.mark.parametrize("monotone", [True, False])
def test_a_hierarchical_backbone(convnext_like, make_trial, monotone):
    space = SearchSpace(reducers=(FastSlow(), FastSlow(fast_path="identity")), max_predictors=3, monotone=monotone)
    space = space.resolve(convnext_like)
    low, high = attainable(convnext_like, space)
    limit = 0.4 * low + 0.6 * high
    proposer = EvolutionProposer(convnext_like, space, low=None, high=limit, seed=0)
    trials = run(proposer, make_trial, stop=25)
    assert len({trial.key for trial in trials}) == 25
    assert all(trial.cost.macs <= limit for trial in trials)


def source(geometry, make_trial, *, num=40):
    trials = run(EvolutionProposer(geometry, SPACE, low=1.5e9, high=3e9, seed=9), make_trial, stop=num)
    dense = make_trial(
        geometry, number=num, schedule=Schedule(), top1=0.8, origin=Origin.REFERENCE, fidelity=Fidelity.DENSE
    )
    return [*trials, dense.model_copy(update={"state": TrialState.REFERENCE})]


def study(geometry, **changes):
    space = SearchSpace().resolve(geometry)
    resolved = Resolved(geometry=geometry, space=space, num_classes=10, in_chans=3, data_fingerprint="none")
    return StudySpec(name="source", backbone=geometry.name, budget=Budget(high=0.6), resolved=resolved, **changes)


def test_priors_are_relative(deit_small, make_trial):
    trials = source(deit_small, make_trial)
    priors = collect_priors(study(deit_small), trials)
    assert len(priors) == 40
    by_cost = {round(prior.cost * dense_macs(deit_small)): prior for prior in priors}
    for trial in trials[:40]:
        prior = by_cost[trial.cost.macs]
        assert prior.accuracy == trial.metrics["val_top1"] / 0.8
        assert [(step.depth * 12, step.keep_ratio) for step in prior.steps] == [
            (step.block, step.keep_ratio) for step in trial.schedule.steps
        ]
        schedule, shape = transferred(prior, deit_small, SPACE)
        assert schedule.key(deit_small) == trial.key
        assert shape.blocks == tuple(step.block for step in trial.schedule.steps)
    many = source(deit_small, make_trial, num=70)
    assert len(collect_priors(study(deit_small), many)) == MOST_PRIORS


def test_priors_are_of_one_fidelity(deit_small, make_trial):
    trials = source(deit_small, make_trial, num=12)
    tuned = [
        trial.model_copy(update={"fidelity": Fidelity.FINETUNE, "number": 100 + i})
        for i, trial in enumerate(trials[:3])
    ]
    assert len(collect_priors(study(deit_small), [*trials, *tuned])) == 12


def test_a_study_without_results_is_no_start(deit_small, make_trial):
    trials = source(deit_small, make_trial, num=3)
    for kept in (trials[:3], trials[3:], []):
        with pytest.raises(SpecError, match="'source' has no evaluated schedule to start from"):
            collect_priors(study(deit_small), kept)


def test_priors_reach_backbones_of_other_depth_and_kind(deit_small, convnext_like, make_trial):
    priors = collect_priors(study(deit_small), source(deit_small, make_trial, num=12))
    (stage,) = deit_small.stages
    deeper = deit_small.model_copy(update={"name": "deeper", "stages": (stage.model_copy(update={"depth": 24}),)})
    space = SearchSpace(max_predictors=3).resolve(deeper)
    for prior in priors:
        schedule, shape = transferred(prior, deeper, space)
        assert [step.block for step in schedule.steps] == [round(24 * step.depth) for step in prior.steps]
        assert outside(shape, space) is None
    slow = SearchSpace(reducers=(FastSlow(),), max_predictors=3).resolve(convnext_like)
    moved = [transferred(prior, convnext_like, slow) for prior in priors]
    assert any(moved)
    assert all(outside(found[1], slow) is None for found in moved if found)


def test_what_cannot_be_done_here_becomes_the_first_method_or_nothing(deit_small):
    space = SPACE
    step = PriorStep(stage=1.0, depth=0.5, keep_ratio=0.4, reducer=FastSlow(), scorer=DynamicVitScorer())
    schedule, shape = transferred(Prior(steps=(step,), accuracy=0.9, cost=0.5), deit_small, space)
    assert schedule == Schedule.at([6], [78 / 196])
    assert shape.blocks == (6,)
    idle = step.model_copy(update={"keep_ratio": 1.0})
    assert transferred(Prior(steps=(idle,), accuracy=1.0, cost=1.0), deit_small, space) is None


def test_the_best_prior_of_a_budget():
    step = PriorStep(stage=0.0, depth=0.5, keep_ratio=0.4, reducer=Prune(), scorer=DynamicVitScorer())
    priors = [Prior(steps=(step,), accuracy=a, cost=c) for a, c in [(0.9, 0.5), (0.92, 0.53), (0.99, 0.9), (0.7, 0.2)]]
    assert best_at(priors, 0.5) == priors[1]
    assert best_at(priors, 0.3) == priors[3]


def test_a_warm_start_saves_evaluations_and_goes_on_alike(deit_small, make_trial):
    limit = 2.2e9
    priors = make_priors(source(deit_small, make_trial)[:40], deit_small, dense_value=0.8)
    warm = run(EvolutionProposer(deit_small, SPACE, low=None, high=limit, seed=1, priors=priors), make_trial, stop=15)
    cold = run(EvolutionProposer(deit_small, SPACE, low=None, high=limit, seed=1), make_trial, stop=15)
    assert best_gap(warm, limit) >= best_gap(cold, limit)
    assert best_gap(warm[:3], limit) > best_gap(cold[:3], limit)
    again = EvolutionProposer(deit_small, SPACE, low=None, high=limit, seed=1, priors=priors)
    for trial in warm[:10]:
        again.tell(trial)
    assert run(again, make_trial, start=10, stop=15) == warm[10:]


def test_the_price_of_a_proposal_is_kept(deit_small, make_trial):
    proposer = EvolutionProposer(deit_small, SPACE, low=1.5e9, high=3e9, seed=0)
    for index in range(15):
        schedule, proposal = proposer.propose(index)
        macs = AnalyticCost().estimate(deit_small, schedule).macs
        assert 0.97 * proposal.params["budget"] * 1e9 <= macs <= proposal.params["budget"] * 1e9 + 1
        top1 = made_up_top1(deit_small, schedule)
        proposer.tell(make_trial(deit_small, number=index, schedule=schedule, top1=top1, proposal=proposal))
