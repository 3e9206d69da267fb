"""Optuna's samplers behind propose and tell: in memory, reproducible, and always inside the budget.

What a proposal is depends on the study's seed, its index, the trials told and the proposals under way, and on nothing
else: every ask gets a new sampler with a seed of its own, and trials are shown to it in the order of their numbers.
So a proposer that is built again and told the same trials goes on exactly as the first would have.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial

from sparsesearch.errors import SpaceError
from sparsesearch.geometry import BackboneGeometry
from sparsesearch.schedule import Schedule
from sparsesearch.search.pareto import pareto_front
from sparsesearch.search.proposals import check_reachable, fit_to_budget
from sparsesearch.search.reach import first_place_floors
from sparsesearch.seeds import derive_seed
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.encoding import Params, decode, encode, parameters
from sparsesearch.space.sampling import draw_shape, mutate_shape
from sparsesearch.space.shape import Shape
from sparsesearch.trial import Fidelity, Origin, Proposal, Trial, TrialState

SamplerName = Literal["tpe", "random", "nsga2"]

_ASKS = 8  # sampler asks a proposal, before random shapes take over
_DRAWS = 400  # random shapes and mutations, before the space counts as exhausted
_ELITE = 10  # most accurate results that random search starts from
_VISIBLE = 500  # most trials a sampler sees
_WINDOW = 50  # the selection of visible trials changes once in so many trials
_POPULATION = 20  # of NSGA-II
_GENERATION = "NSGAIISampler:generation"
_PARENTS = "NSGAIISampler:parent:1"
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


class OptunaProposer:
    """Proposes schedules under a budget. Not thread-safe; one owner.

    With a single budget the sampler maximises `val_top1`. With a range it maximises `val_top1` and minimises
    multiply-adds, and the budget of a proposal is one of its parameters; at even indices it is replaced by a
    low-discrepancy draw, so that the whole range is covered. NSGA-II runs as a steady state: parents are the elite of
    all trials told so far, so that neither late trials nor a restart change what a generation is.
    """

    def __init__(
        self,
        geometry: BackboneGeometry,
        space: SearchSpace,
        *,
        low_macs: int | None,
        high_macs: int,
        sampler: SamplerName,
        seed: int,
    ) -> None:
        """Set up an empty proposer.

        Args:
            geometry: The backbone.
            space: The search space; it need not be spelled out for the geometry.
            low_macs: Lower end of the range of budgets in multiply-adds, None for a single budget.
            high_macs: The budget, or the upper end of the range, in multiply-adds.
            sampler: Which of Optuna's samplers.
            seed: Seed of the study.

        Raises:
            BudgetError: No schedule of the space meets an end of the range.
            SpaceError: The space does not fit the geometry.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._geometry, self._space = geometry, space.for_geometry(geometry)
        self._low, self._high = low_macs, high_macs
        self._sampler, self._seed = sampler, seed
        self._fidelity: Fidelity | None = None
        for budget_macs in {low_macs or high_macs, high_macs}:
            check_reachable(geometry, space=self._space, limit=budget_macs)
        self._floors = first_place_floors(geometry, space=self._space)
        self._distributions = self._make_distributions()
        self._told: dict[int, FrozenTrial | None] = {}
        self._pending: dict[int, FrozenTrial] = {}
        self._keys: set[str] = set()
        self._loaded: list[FrozenTrial] = []
        self._study = self._new_study()

    def tell(self, trial: Trial) -> None:
        """Take note of a trial: a result if it is final, a proposal under way if it is not.

        Baselines count as results where they lie in the space. Failed, rejected and stopped trials give no result,
        but their schedules are not proposed again; reference trials are ignored. Telling a trial again changes
        nothing.

        Raises:
            ValueError: The trial is of another fidelity than those before; their numbers cannot be compared.
        """
        if trial.number in self._told or trial.origin is Origin.REFERENCE:
            return
        if self._fidelity not in (None, trial.fidelity):
            raise ValueError(f"trial {trial.number} has fidelity {trial.fidelity}, those before {self._fidelity}")
        self._fidelity = trial.fidelity
        self._keys.add(trial.key)
        if trial.proposal is not None:
            if not trial.state.is_final:
                self._pending.setdefault(trial.proposal.index, self._frozen(trial.proposal.params, values=None))
                return
            self._pending.pop(trial.proposal.index, None)
        if trial.state.is_final:
            self._told[trial.number] = self._result(trial)

    def propose(self, index: int) -> tuple[Schedule, Proposal] | None:
        """Proposal `index` of the study; it counts as under way until its trial is told.

        Returns:
            A schedule that meets the budget and was neither told nor proposed before, and how it came about; None
            when no new schedule can be found any more.
        """
        self._show(self._visible())
        for shape, budget_macs in self._candidates(index):
            schedule = fit_to_budget(self._geometry, space=self._space, shape=shape, limit=budget_macs)
            if schedule is None:
                continue
            key = schedule.key(self._geometry)
            if key in self._keys:
                continue
            params = self._params(schedule, budget_macs=budget_macs)
            seen = tuple(sorted(self._told))
            self._keys.add(key)
            self._pending[index] = self._frozen(params, values=None)
            return schedule, Proposal(index=index, seed=self._derive(index), seen=seen, params=params)
        return None

    def _candidates(self, index: int) -> Iterator[tuple[Shape, int]]:
        """Shapes with their budgets, best guess first: the sampler's, then neighbours of the best and random ones."""
        for attempt in range(_ASKS):
            params = self._ask(self._derive(index, attempt))
            budget_macs = self._budget(index, params)
            yield decode(params, space=self._space, latest_first=self._latest(budget_macs)), budget_macs
        rng = np.random.default_rng(self._derive(index, _ASKS))
        elite = self._elite()
        for draw in range(_DRAWS):
            budget_macs = self._high
            if self._low is not None:
                budget_macs = self._low + round(float(rng.random()) * (self._high - self._low))
            latest = self._latest(budget_macs)
            if elite and draw % 4:
                known = decode(elite[int(rng.integers(len(elite)))].params, space=self._space)
                yield mutate_shape(known, self._space, rng=rng, latest_first=latest), budget_macs
            else:
                yield draw_shape(self._space, rng=rng, latest_first=latest), budget_macs

    def _elite(self) -> list[FrozenTrial]:
        """The best results: the most accurate ones, for a range the front."""
        results = self._results()
        if self._low is not None:
            return [results[i] for i in pareto_front([(r.values[0], r.values[1]) for r in results])]
        return sorted(results, key=lambda result: -result.values[0])[:_ELITE]

    def _results(self) -> list[FrozenTrial]:
        """What was told about the objectives, in the order of the trials' numbers."""
        return [frozen for _, frozen in sorted(self._told.items()) if frozen is not None]

    def _ask(self, seed: int) -> Params:
        """One vector of parameters from a new sampler with its own seed; leaves the study as it was."""
        self._study.sampler = self._make_sampler(seed)
        trial = self._study.ask(self._distributions)
        params = dict(trial.params)
        self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return params

    def _make_sampler(self, seed: int) -> BaseSampler:
        if self._sampler == "tpe":
            return TPESampler(seed=seed, multivariate=True, constant_liar=True)
        if self._sampler == "nsga2":
            return NSGAIISampler(seed=seed, population_size=_POPULATION)
        return RandomSampler(seed=seed)

    def _make_distributions(self) -> dict[str, BaseDistribution]:
        found: dict[str, BaseDistribution] = {}
        for parameter in parameters(self._space):
            if parameter.kind == "int":
                found[parameter.name] = IntDistribution(int(parameter.low), int(parameter.high))
            elif parameter.kind == "float":
                found[parameter.name] = FloatDistribution(parameter.low, parameter.high)
            else:
                found[parameter.name] = CategoricalDistribution(list(range(int(parameter.high) + 1)))
        if self._low is not None:
            found["budget"] = FloatDistribution(self._low / 1e9, self._high / 1e9)
        return found

    def _new_study(self) -> optuna.Study:
        self._storage = InMemoryStorage()
        maximize, minimize = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
        directions = [maximize] if self._low is None else [maximize, minimize]
        return optuna.create_study(storage=self._storage, study_name="study", directions=directions)

    def _visible(self) -> list[FrozenTrial]:
        """The results a sampler sees in order of their numbers, then the proposals under way."""
        if self._sampler == "random":
            return []
        results = self._results()
        if len(results) > _VISIBLE:
            cut = len(results) - (len(results) - _VISIBLE) % _WINDOW
            newest = cut - (_VISIBLE - _WINDOW) // 2
            older = sorted(range(newest), key=lambda i: (-results[i].values[0], i))
            best = sorted(older[: _VISIBLE - _WINDOW - (cut - newest)])
            results = [results[i] for i in best] + results[newest:]
        return results + [frozen for _, frozen in sorted(self._pending.items())]

    def _show(self, trials: list[FrozenTrial]) -> None:
        """Make the study hold exactly these trials, besides failed ones that samplers do not look at."""
        same = len(self._loaded) <= len(trials) and all(a is b for a, b in zip(self._loaded, trials, strict=False))
        if not same:
            self._study, self._loaded = self._new_study(), []
        self._study.add_trials(trials[len(self._loaded) :])
        self._loaded = trials
        if self._sampler == "nsga2":  # parents are chosen anew from everything visible
            self._storage.set_study_system_attr(self._storage.get_study_id_from_name("study"), _PARENTS, None)

    def _result(self, trial: Trial) -> FrozenTrial | None:
        """A told trial as the sampler sees it, or None if it says nothing about the objectives."""
        top1 = trial.metrics.get("val_top1", math.nan)
        if trial.state is not TrialState.COMPLETE or not math.isfinite(top1):
            return None
        try:
            params = (
                dict(trial.proposal.params)
                if trial.proposal is not None
                else self._params(trial.schedule, budget_macs=trial.budget_macs or trial.cost.macs)
            )
        except SpaceError:
            return None  # a baseline outside the space
        values = [top1] if self._low is None else [top1, float(trial.cost.macs)]
        return self._frozen(params, values=values)

    def _frozen(self, params: Params, *, values: list[float] | None) -> FrozenTrial:
        state = optuna.trial.TrialState.RUNNING if values is None else optuna.trial.TrialState.COMPLETE
        return create_trial(
            state=state,
            values=values,
            params=dict(params),
            distributions=self._distributions,
            system_attrs={_GENERATION: 0} if self._sampler == "nsga2" else {},
        )

    def _params(self, schedule: Schedule, *, budget_macs: int) -> Params:
        params = encode(schedule, geometry=self._geometry, space=self._space)
        if self._low is not None:
            params["budget"] = min(max(budget_macs, self._low), self._high) / 1e9
        return params

    def _budget(self, index: int, params: Params) -> int:
        if self._low is None:
            return self._high
        if index % 2 == 0:
            start = derive_seed(self._seed, "budgets") / 2**63
            share = (start + _GOLDEN * (index // 2)) % 1.0
            return self._low + round(share * (self._high - self._low))
        return min(max(round(float(params["budget"]) * 1e9), self._low), self._high)

    def _latest(self, budget_macs: int) -> int:
        return bisect.bisect_right(self._floors, budget_macs) - 1

    def _derive(self, index: int, attempt: int = 0) -> int:
        return derive_seed(self._seed, "proposal", index, attempt) % 2**32
