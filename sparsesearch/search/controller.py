"""The stages of a study: reference, supernet training, hand-crafted baselines, proposals, finalists.

The controller is pure: the next trial depends only on the spec and on the trials it was told, so it can be rebuilt from
the store at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sparsesearch.analysis.phases import SCREENED_AT, num_rescored
from sparsesearch.budget.baselines import Baseline
from sparsesearch.budget.price import study_latency, study_price
from sparsesearch.budget.solve import check_budget
from sparsesearch.budget.study_baselines import study_baselines
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.errors import StudyFailedError
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.search.finalist_choice import FinalistChoice
from sparsesearch.search.pooling import pooled
from sparsesearch.search.samplers.factory import make_proposer
from sparsesearch.seeds import derive_seed
from sparsesearch.study.learned_counts import counted_schedules
from sparsesearch.study.protocols import Done, Wait
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import TRAINED_DENSE, Cost, Fidelity, NewTrial, Origin, Proposal, Trial, TrialState

MayStart = Callable[[Fidelity], bool]

_SEED_WORDS = {Fidelity.SUPERNET_TRAINING: "elastic"}  # input of derive_seed; kept so that seeds do not change


def _always(fidelity: Fidelity) -> bool:
    return True


class StagedController:
    """Asks for the trials of a study in stages; see `protocols.Controller`.

    A stage starts when every trial of the previous one has been told.

    Args:
        spec: The prepared study.
        geometry: The backbone.
        may_start: Whether there is time for one more trial of a fidelity. Called before each proposal and finalist
            beyond the required first ones.
    """

    def __init__(self, spec: StudySpec, geometry: BackboneGeometry, *, may_start: MayStart = _always) -> None:
        self._spec = spec
        self._geometry = geometry
        self._may_start = may_start
        self._cost = AnalyticCost()
        self._latency, self._price = study_latency(spec), study_price(spec)
        assert spec.resolved is not None, "only prepared studies are run"
        space = spec.resolved.space
        self._low, self._high = check_budget(geometry, space, budget=spec.budget, price=self._price)
        self._proposer = make_proposer(
            spec.sampler,
            geometry,
            space,
            low=self._low,
            high=self._high,
            seed=spec.seed,
            price=self._price,
            priors=spec.resolved.priors,
            metric=spec.metric,
        )
        self._choice = FinalistChoice(spec, geometry, low=self._low, high=self._high)
        self._told: dict[int, Trial] = {}
        self._asked: dict[int, Trial] = {}
        self._under_way: dict[int, Trial] = {}
        self._numbers: dict[tuple[Fidelity, str], int] = {}
        self._next_number = 0
        self._num_proposals = 0
        self._exhausted = False
        self._cut: str | None = None
        self.baselines = study_baselines(spec)

    @property
    def screen_fidelity(self) -> Fidelity:
        """The fidelity at which proposals are evaluated first."""
        return SCREENED_AT[self._spec.fidelity.strategy]

    def ask(self) -> NewTrial | Wait | Done:
        """The next trial; `Wait` while results are outstanding that it depends on; `Done` when no trial will follow.

        Raises:
            StudyFailedError: The dense or supernet training failed, so the study cannot continue.
        """
        trial = self._next()
        if trial is None:
            return Wait() if self._under_way else Done(reason=self._cut)
        self._note(Trial(**{name: getattr(trial, name) for name in NewTrial.model_fields}, study=self._spec.name))
        return trial

    def tell(self, trial: Trial) -> None:
        """Register a stored trial: a result if it is in a final state, otherwise one that was asked for."""
        if trial.number in self._told:
            return
        self._note(trial)
        if trial.state.is_final:
            self._told[trial.number] = trial
            self._under_way.pop(trial.number, None)

    def _note(self, trial: Trial) -> None:
        """Register an existing trial, so that it is not asked for or proposed again."""
        if trial.number not in self._asked:
            self._asked[trial.number] = self._under_way[trial.number] = trial
        self._numbers.setdefault((trial.fidelity, trial.key), trial.number)
        self._next_number = max(self._next_number, trial.number + 1)
        is_proposed = trial.fidelity is self.screen_fidelity and trial.origin is not Origin.REFERENCE
        if is_proposed or trial.fidelity is Fidelity.COUNTS:
            self._proposer.tell(trial)
        if trial.proposal is not None:
            self._num_proposals = max(self._num_proposals, trial.proposal.index + 1)

    def _next(self) -> NewTrial | None:
        for fidelity in (
            (Fidelity.DENSE, Fidelity.SUPERNET_TRAINING) if self._spec.fidelity.trains_supernet else (Fidelity.DENSE,)
        ):
            reference = self._find(fidelity, Schedule())
            if reference is None:
                return self._new(
                    Schedule(), fidelity, origin=Origin.REFERENCE, label=fidelity.value.removesuffix("_training")
                )
            told = self._told.get(reference.number)
            if told is None:
                return None
            if told.state is TrialState.FAILED:
                raise StudyFailedError(f"the {fidelity.training_name} failed: {told.reason}")
        counts = self._counts()
        if counts is not None:
            return counts
        for baseline in self.baselines:
            if baseline.schedule is not None and self._find(self.screen_fidelity, baseline.schedule) is None:
                return self._baseline(baseline, baseline.schedule)
        if any(trial.fidelity is Fidelity.COUNTS for trial in self._under_way.values()):
            return None
        proposal = self._propose()
        if proposal is not None:
            return proposal
        if self.screen_fidelity is Fidelity.FINETUNE:
            return self._trained_dense()
        is_screening = any(trial.fidelity is self.screen_fidelity for trial in self._under_way.values())
        if is_screening:
            return None
        return self._rescored() or (self._finalist() if self._spec.fidelity.finalists else None)

    def _counts(self) -> NewTrial | None:
        """What the sampler `gradients` starts from: a trial for each way of ranking tokens."""
        for method, schedule in counted_schedules(self._spec):
            if self._find(Fidelity.COUNTS, schedule) is None:
                label = f"counts by {method.describe()}"
                return self._new(schedule, Fidelity.COUNTS, origin=Origin.REFERENCE, label=label)
        return None

    def _baseline(self, baseline: Baseline, schedule: Schedule) -> NewTrial:
        return self._new(
            schedule,
            self.screen_fidelity,
            origin=Origin.BASELINE,
            label=baseline.label,
            budget_macs=round(baseline.limit) if self._spec.budget.axis == "macs" else None,
        )

    def _propose(self) -> NewTrial | None:
        planned = self._spec.fidelity.evaluations
        if self._num_proposals >= planned or self._exhausted:
            return None
        if self._num_proposals >= _MIN_PROPOSALS and not self._may_start(self.screen_fidelity):
            self._cut = f"the time budget ended after {self._num_proposals} of {planned} schedules"
            return None
        proposed = self._proposer.propose(self._num_proposals)
        if proposed is None:
            self._exhausted = True
            return None
        schedule, proposal = proposed
        self._num_proposals = proposal.index + 1
        return self._new(schedule, self.screen_fidelity, origin=Origin.SEARCH, label="search", proposal=proposal)

    def _rescored(self) -> NewTrial | None:
        """One of the best on images that did not rank it: what ranks best is in part luck.

        The hand-crafted ones as well, unless they are fine-tuned.
        """
        searched, baselines = self._screened()
        count = self._num_rescored
        close = self._choice.nearest_to_front(searched, baselines, count=count) if count else []
        for trial in close + ([] if self._spec.fidelity.finalists else baselines):
            if self._find(Fidelity.RESCORED, trial.schedule) is None:
                return self._again(trial, Fidelity.RESCORED)
        return None

    def _finalist(self) -> NewTrial | None:
        if any(trial.fidelity is Fidelity.RESCORED for trial in self._under_way.values()):
            return None
        searched, baselines = self._screened()
        raced = pooled(searched, self._at(Fidelity.RESCORED, Origin.SEARCH)) or searched
        planned = self._choice.finalists(raced, baselines, count=self._spec.fidelity.finalists)
        found = self._trained([*planned, *baselines]) or self._trained_dense()
        return found or self._trained(self._choice.more_finalists(raced, baselines, planned))

    def _trained(self, trials: Sequence[Trial]) -> NewTrial | None:
        """The fine-tuning of the first of some trials whose schedule is not fine-tuned yet."""
        for trial in trials:
            if self._find(Fidelity.FINETUNE, trial.schedule) is not None:
                continue
            return self._again(trial, Fidelity.FINETUNE) if self._may_finetune() else None
        return None

    def _again(self, trial: Trial, fidelity: Fidelity) -> NewTrial:
        return self._new(
            trial.schedule,
            fidelity,
            origin=trial.origin,
            label=trial.label,
            parent=trial.number,
            budget_macs=trial.budget_macs,
        )

    def _trained_dense(self) -> NewTrial | None:
        """The dense model, trained as the candidates are; once, and only next to hand-crafted schedules."""
        has_one = self._find(Fidelity.FINETUNE, Schedule()) is not None
        if has_one or not self._spec.baselines or not self._has_finalist(Origin.BASELINE) or not self._may_finetune():
            return None
        return self._new(Schedule(), Fidelity.FINETUNE, origin=Origin.REFERENCE, label=TRAINED_DENSE)

    def _may_finetune(self) -> bool:
        """Whether there is time for another fine-tuning; always for the first one of a proposal."""
        if not self._has_finalist() or self._may_start(Fidelity.FINETUNE):
            return True
        self._cut = self._cut or "the time budget ended before all finalists were fine-tuned"
        return False

    @property
    def _num_rescored(self) -> int:
        found = self._spec.resolved
        assert found is not None, "only prepared studies are run"
        count = num_rescored(self._spec.fidelity, num_more_images=found.num_more_images)
        return count + found.more_finalists if count else 0

    def _screened(self) -> tuple[list[Trial], list[Trial]]:
        """Searched and hand-crafted schedules that are evaluated."""
        return self._at(self.screen_fidelity, Origin.SEARCH), self._at(self.screen_fidelity, Origin.BASELINE)

    def _has_finalist(self, origin: Origin = Origin.SEARCH) -> bool:
        """Whether a schedule of this origin is fine-tuned, or being fine-tuned."""
        trials = (*self._at(Fidelity.FINETUNE, origin), *self._under_way.values())
        return any(trial.fidelity is Fidelity.FINETUNE and trial.origin is origin for trial in trials)

    def _at(self, fidelity: Fidelity, origin: Origin) -> list[Trial]:
        """Completed trials of a fidelity and origin, by number."""
        return [
            trial
            for _, trial in sorted(self._told.items())
            if trial.fidelity is fidelity and trial.origin is origin and trial.state is TrialState.COMPLETE
        ]

    def _find(self, fidelity: Fidelity, schedule: Schedule) -> Trial | None:
        number = self._numbers.get((fidelity, schedule.key(self._geometry)))
        return None if number is None else self._asked[number]

    def _new(
        self,
        schedule: Schedule,
        fidelity: Fidelity,
        *,
        origin: Origin,
        label: str,
        parent: int | None = None,
        proposal: Proposal | None = None,
        budget_macs: int | None = None,
    ) -> NewTrial:
        return NewTrial(
            number=self._next_number,
            fidelity=fidelity,
            origin=origin,
            label=label,
            schedule=schedule.canonical(self._geometry),
            key=schedule.key(self._geometry),
            cost=self._priced(schedule),
            seed=derive_seed(self._spec.seed, _SEED_WORDS.get(fidelity, fidelity.value)),
            parent=parent,
            proposal=proposal,
            budget_macs=budget_macs,
        )

    def _priced(self, schedule: Schedule) -> Cost:
        """The cost of a schedule, including milliseconds if the study has a target."""
        cost = self._cost.estimate(self._geometry, schedule)
        if self._latency is None:
            return cost
        is_dense = not schedule.resolve(self._geometry)
        ms = self._latency.fit.dense_ms if is_dense else self._latency.predict(self._geometry, schedule)
        return cost.model_copy(update={"predicted_ms": ms})


_MIN_PROPOSALS = 3
