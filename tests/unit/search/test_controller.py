import itertools

import pytest
from sample_study import prepared

from sparsesearch.analysis.phases import num_rescored
from sparsesearch.analysis.study_front import study_front
from sparsesearch.errors import BudgetError, StudyFailedError
from sparsesearch.schedule import Schedule
from sparsesearch.search.challengers import challengers, is_other
from sparsesearch.search.controller import StagedController
from sparsesearch.search.finalists import choose_finalists
from sparsesearch.seeds import derive_seed
from sparsesearch.space.definition import SearchSpace
from sparsesearch.study.metric import VAL_TOP1
from sparsesearch.study.protocols import Done, Wait
from sparsesearch.study.spec import Budget, FidelitySpec, StudySpec
from sparsesearch.study.trial import Fidelity, Measurement, NewTrial, Origin, Trial, TrialState

DENSE, SUPERNET_TRAINING, SUPERNET, FINETUNE = (
    Fidelity.DENSE,
    Fidelity.SUPERNET_TRAINING,
    Fidelity.SUPERNET,
    Fidelity.FINETUNE,
)
REFERENCE, BASELINE, SEARCH = Origin.REFERENCE, Origin.BASELINE, Origin.SEARCH


def study(*, strategy="supernet", evaluations=5, finalists=2, low=None, **changes):
    fidelity = FidelitySpec(strategy=strategy, evaluations=evaluations, finalists=finalists)
    fields = {"name": "study", "backbone": "deit_small_patch16_224", "seed": 3, **changes}
    return StudySpec(budget=Budget(low=low, high=0.65), fidelity=fidelity, **fields)


def controller_of(spec, geometry, **options):
    return StagedController(prepared(spec, geometry), geometry, **options)


def made_up_top1(schedule):
    return 0.8 - sum(0.01 * (1 - step.keep_ratio) * (12 - step.block) for step in schedule.steps)


def finish(new, *, state=None, top1=None, num_images=1000.0):
    """A trial as the store gives it back after it was run."""
    done = TrialState.REFERENCE if new.origin is REFERENCE else TrialState.COMPLETE
    metrics = {"val_top1": made_up_top1(new.schedule) if top1 is None else top1, "val_images": num_images}
    measured = Measurement(step=1, attempt=1, fidelity=new.fidelity, metrics=metrics, seconds=0.0, seed=new.seed)
    fields = {name: getattr(new, name) for name in type(new).model_fields if name in Trial.model_fields}
    return Trial(
        **{**fields, "study": "study", "attempt": 1, "state": state or done},
        reason="it broke" if state is TrialState.FAILED else None,
        measurements=(measured,),
    )


def run(controller, *, end=finish, most=1000):
    trials = []
    while len(trials) < most and isinstance(new := controller.ask(), NewTrial):
        trials.append(end(new))
        controller.tell(trials[-1])
    return trials


def kinds(trials):
    """Fidelity and origin of runs of equal trials, with their lengths."""
    found = []
    for trial in trials:
        kind = (trial.fidelity, trial.origin)
        if found and found[-1][0] == kind:
            found[-1][1] += 1
        else:
            found.append([kind, 1])
    return [(kind, count) for kind, count in found]


class TestOrder:
    def test_stages_of_a_single_budget(self, deit_small):
        trials = run(controller_of(study(), deit_small))
        assert kinds(trials) == [
            ((DENSE, REFERENCE), 1),
            ((SUPERNET_TRAINING, REFERENCE), 1),
            ((SUPERNET, BASELINE), 2),
            ((SUPERNET, SEARCH), 5),
            ((FINETUNE, SEARCH), 2),
            ((FINETUNE, BASELINE), 2),
            ((FINETUNE, REFERENCE), 1),
        ]
        assert [trial.number for trial in trials] == list(range(14))
        assert trials[-1].label == "dense, same training"
        assert trials[-1].schedule == Schedule()
        assert [trial.label for trial in trials[:4]] == ["dense", "supernet", "rho at 3,6,9", "rho at 2,5,8"]

    def test_a_range_has_baselines_at_several_budgets(self, deit_small):
        trials = run(controller_of(study(low=0.5, finalists=3), deit_small))
        (_, num_baselines) = kinds(trials)[2]
        assert 5 <= num_baselines <= 10
        num_finalists = kinds(trials)[4][1]
        assert 3 <= num_finalists <= 5, "each budget of the hand-crafted schedules has its challenger"
        assert kinds(trials)[2:] == [
            ((SUPERNET, BASELINE), num_baselines),
            ((SUPERNET, SEARCH), 5),
            ((FINETUNE, SEARCH), num_finalists),
            ((FINETUNE, BASELINE), num_baselines),
            ((FINETUNE, REFERENCE), 1),
        ]

    def test_every_fine_tuned_baseline_has_a_finalist_of_no_higher_cost(self, deit_small):
        for seed in range(3):
            trials = run(controller_of(study(low=0.35, evaluations=40, finalists=2, seed=seed), deit_small))
            screened = [t for t in trials if (t.fidelity, t.origin) == (SUPERNET, SEARCH)]
            finalists = {t.parent for t in trials if (t.fidelity, t.origin) == (FINETUNE, SEARCH)}
            baselines = [t for t in trials if (t.fidelity, t.origin) == (FINETUNE, BASELINE)]
            for baseline in baselines:
                able = [t for t in screened if t.cost.macs <= baseline.cost.macs]
                able = [t for t in able if all(is_other(t.schedule, r.schedule, deit_small) for r in baselines)]
                assert not able or any(t.number in finalists for t in able)

    def test_without_finalists_the_best_are_evaluated_on_other_images(self, deit_small):
        trials = run(controller_of(study(finalists=0, evaluations=60, low=0.5), deit_small))
        screened = {t.number: t for t in trials if t.fidelity is SUPERNET}
        again = [t for t in trials if t.fidelity is Fidelity.RESCORED]
        assert trials[-len(again) :] == again
        assert [t.origin for t in again if t.origin is SEARCH] == [SEARCH] * num_rescored(
            study(finalists=0, evaluations=60).fidelity, num_more_images=0
        )
        assert {t.parent for t in again if t.origin is BASELINE} == {
            t.number for t in screened.values() if t.origin is BASELINE
        }
        assert all(t.schedule == screened[t.parent].schedule for t in again)
        searched = [t for t in screened.values() if t.origin is SEARCH]
        front = study_front(searched).points
        assert {t.number for t in front} <= {t.parent for t in again}

    def test_finalists_are_chosen_by_all_images_that_may_rank(self, deit_small):
        """The eight nearest to the front are evaluated on more images, where the order is turned round."""
        spec = prepared(study(finalists=4, evaluations=30), deit_small)
        raced = spec.model_copy(update={"resolved": spec.resolved.model_copy(update={"num_more_images": 600})})
        controller = StagedController(raced, deit_small)
        trials = []
        while isinstance(new := controller.ask(), NewTrial):
            is_again = new.fidelity is Fidelity.RESCORED
            options = {"top1": 1.0 - made_up_top1(new.schedule), "num_images": 9000.0} if is_again else {}
            trials.append(finish(new, **options))
            controller.tell(trials[-1])
        again = [t for t in trials if t.fidelity is Fidelity.RESCORED]
        assert [t.origin for t in again] == [SEARCH] * 8
        assert kinds(trials)[4:6] == [((Fidelity.RESCORED, SEARCH), 8), ((FINETUNE, SEARCH), 4)]
        finalists = [t.parent for t in trials if (t.fidelity, t.origin) == (FINETUNE, SEARCH)]
        best_again = sorted(again, key=lambda t: -t.metrics["val_top1"])
        assert {t.parent for t in best_again[:3]} <= set(finalists)

    def test_gradients_learn_counts_before_the_first_proposal(self, deit_small):
        controller = controller_of(study(sampler="gradients"), deit_small)
        asked = []
        for _ in range(2):
            asked.append(controller.ask())
            controller.tell(finish(asked[-1]))
        while isinstance(new := controller.ask(), NewTrial):
            asked.append(new)
        assert isinstance(new, Wait)
        assert kinds(asked)[2:] == [((Fidelity.COUNTS, REFERENCE), 1), ((SUPERNET, BASELINE), 2)]
        controller.tell(finish(asked[2], state=TrialState.FAILED))
        proposal = controller.ask()
        assert (proposal.fidelity, proposal.origin) == (SUPERNET, SEARCH)

    def test_without_a_supernet_proposals_are_fine_tuned_at_once(self, deit_small):
        controller = controller_of(study(strategy="finetune"), deit_small)
        assert controller.screen_fidelity is FINETUNE
        trials = run(controller)
        assert kinds(trials) == [
            ((DENSE, REFERENCE), 1),
            ((FINETUNE, BASELINE), 2),
            ((FINETUNE, SEARCH), 5),
            ((FINETUNE, REFERENCE), 1),
        ]
        assert all(trial.parent is None for trial in trials)

    def test_baselines_can_be_left_out(self, deit_small):
        trials = run(controller_of(study(baselines=False), deit_small))
        assert kinds(trials)[2:] == [((SUPERNET, SEARCH), 5), ((FINETUNE, SEARCH), 2)]

    def test_a_stage_waits_for_the_one_before(self, deit_small):
        controller = controller_of(study(), deit_small)
        dense = controller.ask()
        assert controller.ask() == Wait()
        controller.tell(finish(dense))
        supernet = controller.ask()
        assert controller.ask() == Wait()
        controller.tell(finish(supernet))
        screened = []
        while isinstance(new := controller.ask(), NewTrial):
            screened.append(new)
        assert len(screened) == 7, "screening needs no order among itself"
        for new in screened[:-1]:
            controller.tell(finish(new))
        assert controller.ask() == Wait(), "finalists are chosen when all are screened"
        controller.tell(finish(screened[-1]))
        tuned = []
        while isinstance(new := controller.ask(), NewTrial):
            tuned.append(new)
        everything = [((FINETUNE, SEARCH), 2), ((FINETUNE, BASELINE), 2), ((FINETUNE, REFERENCE), 1)]
        assert kinds(tuned) == everything, "all at once"

    def test_finalists_are_the_chosen_ones_with_their_parents(self, deit_small):
        controller = controller_of(study(evaluations=8, finalists=3), deit_small)
        trials = run(controller)
        screened = [t for t in trials if (t.fidelity, t.origin) == (SUPERNET, SEARCH)]
        tuned = [t for t in trials if (t.fidelity, t.origin) == (FINETUNE, SEARCH)]
        dearest = max(trial.cost.macs for trial in screened)
        baselines = [t for t in trials if (t.fidelity, t.origin) == (SUPERNET, BASELINE)]
        required = challengers(screened, baselines, geometry=deit_small, metric=VAL_TOP1)
        assert len(required) <= 1
        chosen = choose_finalists(screened, count=3, low=None, high=dearest, required=required)
        assert [(t.parent, t.key, t.schedule, t.cost) for t in tuned] == [
            (t.number, t.key, t.schedule, t.cost) for t in chosen
        ]


class TestTrials:
    def test_no_schedule_is_asked_for_twice(self, deit_small):
        for low in (None, 0.3):
            trials = run(controller_of(study(low=low, evaluations=25), deit_small))
            identities = [(trial.key, trial.fidelity, trial.seed) for trial in trials]
            assert len(set(identities)) == len(identities)

    def test_costs_keys_and_seeds_are_those_of_the_schedule(self, deit_small):
        spec = study(low=0.5)
        for trial in run(controller_of(spec, deit_small)):
            assert trial.key == trial.schedule.key(deit_small)
            assert trial.schedule == trial.schedule.canonical(deit_small)
            assert trial.seed == derive_seed(
                spec.seed, "elastic" if trial.fidelity is Fidelity.SUPERNET_TRAINING else trial.fidelity.value
            )
            if trial.origin is not REFERENCE:
                assert trial.cost.macs <= spec.budget.macs(4_600_000_000)[1] * 1.01
            assert (trial.proposal is not None) == ((trial.fidelity, trial.origin) == (SUPERNET, SEARCH))

    def test_baselines_that_are_one_model_are_tried_once(self, deit_small):
        """Budgets closer than the cost of a token share their schedules."""
        controller = controller_of(study(low=0.6499, evaluations=2), deit_small)
        possible = [b.schedule.key(deit_small) for b in controller.baselines if b.schedule is not None]
        assert len(possible) == 10
        assert len(set(possible)) == 2
        trials = run(controller)
        for fidelity in (SUPERNET, FINETUNE):
            tried = [t.key for t in trials if (t.fidelity, t.origin) == (fidelity, BASELINE)]
            assert sorted(tried) == sorted(set(possible))

    def test_an_exhausted_space_ends_the_screening(self, tiny):
        space = SearchSpace(blocks=(2,), max_predictors=1, min_keep_ratio=0.25)
        spec = study(evaluations=50, finalists=50, space=space, baselines=False)
        spec = spec.model_copy(update={"budget": Budget(low=0.85, high=0.95)})
        trials = run(controller_of(spec, tiny))
        counts = dict(kinds(trials))
        assert 1 <= counts[SUPERNET, SEARCH] <= 3
        assert counts[FINETUNE, SEARCH] == counts[SUPERNET, SEARCH]

    def test_a_budget_out_of_reach_is_refused_at_once(self, deit_small):
        spec = study().model_copy(update={"budget": Budget(high=0.001)})
        with pytest.raises(BudgetError, match="give a budget in that range"):
            controller_of(spec, deit_small)


class TestRebuilding:
    @pytest.mark.parametrize("low", [None, 0.4])
    @pytest.mark.parametrize("strategy", ["supernet", "finetune"])
    def test_a_rebuilt_controller_asks_for_the_same_next(self, deit_small, strategy, low):
        spec = study(strategy=strategy, low=low, evaluations=6, finalists=2)
        trials = run(controller_of(spec, deit_small))
        for cut in range(len(trials) + 1):
            again = controller_of(spec, deit_small)
            for trial in trials[:cut]:
                again.tell(trial)
            asked = again.ask()
            if cut == len(trials):
                assert asked == Done()
            else:
                assert finish(asked) == trials[cut]

    def test_failed_trials_do_not_change_what_follows_a_restart(self, deit_small):
        def end(new):
            return finish(new, state=TrialState.FAILED if new.number in (3, 5, 9) else None)

        spec = study(evaluations=6)
        trials = run(controller_of(spec, deit_small), end=end)
        assert sum(trial.state is TrialState.FAILED for trial in trials) == 3
        for cut in range(len(trials)):
            again = controller_of(spec, deit_small)
            for trial in trials[:cut]:
                again.tell(trial)
            assert end(again.ask()) == trials[cut]

    def test_telling_twice_and_telling_what_is_not_final_change_nothing(self, deit_small):
        spec = study()
        once, twice = controller_of(spec, deit_small), controller_of(spec, deit_small)
        for trial in run(controller_of(spec, deit_small), most=6):
            once.tell(trial)
            for _ in range(2):
                twice.tell(trial.model_copy(update={"state": TrialState.RUNNING}))
                twice.tell(trial)
        assert run(once) == run(twice)


class TestFailures:
    @pytest.mark.parametrize(("number", "name"), [(0, "dense"), (1, "supernet")])
    def test_nothing_follows_a_reference_that_failed(self, deit_small, number, name):
        def end(new):
            return finish(new, state=TrialState.FAILED if new.number == number else None)

        controller = controller_of(study(), deit_small)
        with pytest.raises(StudyFailedError, match=f"the {name} training failed: it broke"):
            run(controller, end=end)
        with pytest.raises(StudyFailedError):
            controller.ask()

    def test_failed_candidates_are_no_finalists(self, deit_small):
        def end(new):
            return finish(new, state=TrialState.FAILED if new.fidelity is SUPERNET and new.number != 6 else None)

        trials = run(controller_of(study(), deit_small), end=end)
        assert [t.parent for t in trials if t.fidelity is FINETUNE] == [6]

    def test_a_failed_finalist_is_not_tried_again(self, deit_small):
        def end(new):
            return finish(new, state=TrialState.FAILED if new.fidelity is FINETUNE else None)

        trials = run(controller_of(study(), deit_small), end=end)
        assert kinds(trials)[-2:] == [((FINETUNE, SEARCH), 2), ((FINETUNE, BASELINE), 2)]


class TestTime:
    def test_when_time_is_up_only_what_is_needed_runs(self, deit_small):
        asked = []

        def may_start(fidelity):
            asked.append(fidelity)
            return False

        trials = run(controller_of(study(evaluations=20), deit_small, may_start=may_start))
        assert kinds(trials) == [
            ((DENSE, REFERENCE), 1),
            ((SUPERNET_TRAINING, REFERENCE), 1),
            ((SUPERNET, BASELINE), 2),
            ((SUPERNET, SEARCH), 3),
            ((FINETUNE, SEARCH), 1),
        ]
        assert set(asked) == {SUPERNET, FINETUNE}

    def test_when_time_is_up_one_finalist_at_a_time_is_needed(self, deit_small):
        """The next one only if that one fails."""
        controller = controller_of(study(evaluations=6), deit_small, may_start=lambda fidelity: False)
        while (new := controller.ask()).fidelity is not FINETUNE:
            controller.tell(finish(new))
        assert controller.ask() == Wait()
        controller.tell(finish(new, state=TrialState.FAILED))
        second = controller.ask()
        assert (second.fidelity, second.origin) == (FINETUNE, SEARCH)
        controller.tell(finish(second))
        assert controller.ask() == Done(reason="the time budget ended after 3 of 6 schedules")

    def test_no_more_is_proposed_than_there_is_time_for(self, deit_small):
        times = itertools.chain([True, True], itertools.repeat(False))

        def may_start(fidelity):
            return fidelity is FINETUNE or next(times)

        trials = run(controller_of(study(evaluations=20), deit_small, may_start=may_start))
        assert kinds(trials)[3:] == [
            ((SUPERNET, SEARCH), 5),
            ((FINETUNE, SEARCH), 2),
            ((FINETUNE, BASELINE), 2),
            ((FINETUNE, REFERENCE), 1),
        ]

    def test_finalists_that_the_plan_has_cut_are_fine_tuned_while_time_is_left(self, deit_small):
        spec = prepared(study(evaluations=6), deit_small)
        more = spec.model_copy(update={"resolved": spec.resolved.model_copy(update={"more_finalists": 3})})
        planned, longer = (kinds(run(StagedController(each, deit_small))) for each in (spec, more))
        assert longer == [*planned, ((FINETUNE, SEARCH), 3)]

    def test_time_that_returns_in_a_resumed_study_is_used(self, deit_small):
        spec = study(evaluations=6, sampler="tpe")  # a sampler that does not beat its first proposals at once
        short = run(controller_of(spec, deit_small, may_start=lambda fidelity: False))
        again = controller_of(spec, deit_small)
        for trial in short:
            again.tell(trial)
        rest = run(again)
        assert kinds(rest) == [
            ((SUPERNET, SEARCH), 3),
            ((FINETUNE, SEARCH), 1),
            ((FINETUNE, BASELINE), 2),
            ((FINETUNE, REFERENCE), 1),
        ]


def test_the_dense_schedule_is_the_reference_of_every_study(deit_small):
    dense = controller_of(study(), deit_small).ask()
    assert dense.schedule == Schedule()
    assert (dense.number, dense.fidelity, dense.origin) == (0, DENSE, REFERENCE)
