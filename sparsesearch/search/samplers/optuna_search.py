"""Optuna's samplers as proposers: in memory, reproducible, and always within the budget.

Every ask uses a new sampler with its own seed, and adds results in order of trial numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial

from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.search.samplers.proposer import Proposer, Result
from sparsesearch.space.encoding import Params, decode, parameters
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.study.metric import VAL_TOP1, Metric
from sparsesearch.study.protocols import Price

OptunaSamplerName = Literal["tpe", "random", "nsga2", "gp"]

_ASKS = 8  # sampler asks per proposal before falling back to random shapes
_MOST_VISIBLE = {"gp": 100}  # with more trials, an ask takes seconds
_POPULATION = 20  # population size of NSGA-II
_GENERATION = "NSGAIISampler:generation"
_PARENTS = "NSGAIISampler:parent:1"


class OptunaProposer(Proposer):
    """Proposes shapes with one of Optuna's samplers; see `Proposer`.

    With a single budget, the sampler maximises the metric. With a range, it maximises the metric and minimises cost,
    and the budget of a proposal is one of its parameters; at even indices it is replaced by a low-discrepancy draw, so
    that the whole range is covered. NSGA-II runs in steady state: parents are the elite of all trials told so far, so
    that generations depend neither on late trials nor on a restart.
    """

    def __init__(
        self,
        geometry: BackboneGeometry,
        space: ResolvedSpace,
        *,
        low: float | None,
        high: float,
        sampler: OptunaSamplerName,
        seed: int,
        price: Price | None = None,
        metric: Metric = VAL_TOP1,
    ) -> None:
        """Set up an empty proposer.

        Args:
            geometry: As in `Proposer`.
            space: As in `Proposer`.
            low: As in `Proposer`.
            high: As in `Proposer`.
            sampler: Name of the Optuna sampler.
            seed: As in `Proposer`.
            price: As in `Proposer`.
            metric: As in `Proposer`.

        Raises:
            BudgetError: No schedule of the space meets an end of the range.
        """
        super().__init__(geometry, space, low=low, high=high, seed=seed, price=price, metric=metric)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._sampler = sampler
        self.most_visible = _MOST_VISIBLE.get(sampler, Proposer.most_visible)
        self._distributions = self._make_distributions()
        self._frozen_results: dict[int, FrozenTrial] = {}
        self._frozen_pending: dict[int, FrozenTrial] = {}
        self._loaded: list[FrozenTrial] = []
        self._study = self._new_study()

    def sampled(self, index: int) -> Iterator[tuple[Schedule, float]]:
        """The schedules that the sampler suggests."""
        self._show(self._shown())
        for attempt in range(_ASKS):
            params = self._ask(self.derive(index, attempt))
            limit = self._budget(index, params)
            schedule = self.fit(decode(params, space=self.space, latest_first=self.latest(limit)), limit)
            if schedule is not None:
                yield schedule, limit

    def _ask(self, seed: int) -> Params:
        """Suggest parameters with a new sampler and its own seed; the study is not changed."""
        self._study.sampler = self._make_sampler(seed)
        trial = self._study.ask(self._distributions)
        params = dict(trial.params)
        self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return params

    def _make_sampler(self, seed: int) -> BaseSampler:
        match self._sampler:
            case "tpe":
                return TPESampler(seed=seed, multivariate=True, constant_liar=True)
            case "nsga2":
                return NSGAIISampler(seed=seed, population_size=_POPULATION)
            case "gp":
                return GPSampler(seed=seed)
            case "random":
                return RandomSampler(seed=seed)

    def _make_distributions(self) -> dict[str, BaseDistribution]:
        found: dict[str, BaseDistribution] = {}
        for parameter in parameters(self.space):
            if parameter.kind == "int":
                found[parameter.name] = IntDistribution(int(parameter.low), int(parameter.high))
            elif parameter.kind == "float":
                found[parameter.name] = FloatDistribution(parameter.low, parameter.high)
            else:
                found[parameter.name] = CategoricalDistribution(list(range(int(parameter.high) + 1)))
        if self.low is not None:
            found["budget"] = FloatDistribution(self.low / self.unit, self.high / self.unit)
        return found

    def _new_study(self) -> optuna.Study:
        self._storage = InMemoryStorage()
        maximize, minimize = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
        directions = [maximize] if self.low is None else [maximize, minimize]
        return optuna.create_study(storage=self._storage, study_name="study", directions=directions)

    def _shown(self) -> list[FrozenTrial]:
        """The trials shown to the sampler: results inside the space, then pending proposals."""
        if self._sampler == "random":
            return []
        shown = [self._frozen_result(result) for result in self.visible() if result.params is not None]
        for index, pending in sorted(self._pending.items()):
            if index not in self._frozen_pending:
                self._frozen_pending[index] = self._frozen(pending.params, values=None)
            shown.append(self._frozen_pending[index])
        return shown

    def _show(self, trials: list[FrozenTrial]) -> None:
        """Load exactly these trials into the study, in addition to failed ones, which samplers ignore."""
        same = len(self._loaded) <= len(trials) and all(a is b for a, b in zip(self._loaded, trials, strict=False))
        if not same:
            self._study, self._loaded = self._new_study(), []
        self._study.add_trials(trials[len(self._loaded) :])
        self._loaded = trials
        if self._sampler == "nsga2":  # select parents again from all visible trials
            self._storage.set_study_system_attr(self._storage.get_study_id_from_name("study"), _PARENTS, None)

    def _frozen_result(self, result: Result) -> FrozenTrial:
        """A result as an Optuna trial; always the same object."""
        found = self._frozen_results.get(result.number)
        if found is None:
            values = [result.score] if self.low is None else [result.score, result.cost]
            found = self._frozen(result.params or {}, values=values)
            self._frozen_results[result.number] = found
        return found

    def _frozen(self, params: Params, *, values: list[float] | None) -> FrozenTrial:
        state = optuna.trial.TrialState.RUNNING if values is None else optuna.trial.TrialState.COMPLETE
        return create_trial(
            state=state,
            values=values,
            params=dict(params),
            distributions=self._distributions,
            system_attrs={_GENERATION: 0} if self._sampler == "nsga2" else {},
        )

    def _budget(self, index: int, params: Params) -> float:
        if self.low is None or index % 2 == 0:
            return self.spread_budget(index // 2)
        return min(max(self.rounded(float(params["budget"]) * self.unit), self.low), self.high)
