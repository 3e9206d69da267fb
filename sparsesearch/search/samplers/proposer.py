"""What all samplers have in common: results told, proposals under way, budgets, and never a schedule twice.

What a proposal is depends on the study's seed, its index, the results told and the proposals under way, and on nothing
else. So a proposer that is built again and told the same trials goes on exactly as the first would have.
"""

from __future__ import annotations

import bisect
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sparsesearch.analysis.pareto import pareto_front
from sparsesearch.budget.feasible import first_location_floors
from sparsesearch.budget.solve import check_feasible, fit_to_budget
from sparsesearch.cost.separable import MACS
from sparsesearch.errors import SpaceError
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.search.samplers.visible import best, split
from sparsesearch.seeds import derive_seed
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.encoding import Params, decode, encode
from sparsesearch.space.sampling import draw_shape, mutate_shape
from sparsesearch.space.shape import Shape
from sparsesearch.study.protocols import Price
from sparsesearch.study.trial import Fidelity, Origin, Proposal, Trial, TrialState

_DRAWS = 400  # random shapes and mutations, before the space counts as exhausted
_ELITE = 10  # most accurate results that random search starts from
_NUM_RANDOM = 1000  # attempts of a sampler stay below this number, so that its seeds are its own
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


class Result(NamedTuple):
    """A trial that says something about the objectives.

    Attributes:
        number: Of the trial.
        schedule: What was evaluated.
        top1: `val_top1`.
        cost: In the unit of the price.
        params: Flat parameters of the schedule, the budget included; None if it lies outside the space.
    """

    number: int
    schedule: Schedule
    top1: float
    cost: float
    params: Params | None


class UnderWay(NamedTuple):
    """A proposal whose result is not known yet.

    Attributes:
        schedule: What is being evaluated.
        params: As in `Result`.
    """

    schedule: Schedule
    params: Params


class Proposer(ABC):
    """Proposes schedules under a budget. Not thread-safe; one owner.

    With a single budget accuracy is maximised. With a range a front is wanted, and every proposal has a budget of its
    own inside the range.
    """

    most_visible = 500

    def __init__(
        self,
        geometry: BackboneGeometry,
        space: SearchSpace,
        *,
        low: float | None,
        high: float,
        seed: int,
        price: Price | None = None,
    ) -> None:
        """Set up an empty proposer.

        Args:
            geometry: The backbone.
            space: The search space; it need not be spelled out for the geometry.
            low: Lower end of the range of budgets in the unit of the price, None for a single budget.
            high: The budget, or the upper end of the range.
            seed: Seed of the study.
            price: What a schedule costs, exact multiply-adds if None.

        Raises:
            BudgetError: No schedule of the space meets an end of the range.
            SpaceError: The space does not fit the geometry.
        """
        self.geometry, self.space = geometry, space.for_geometry(geometry)
        self.low, self.high, self.price = low, high, price
        self.unit = 1.0 if price is not None and price.unit == "ms" else 1e9
        self._seed = seed
        for limit in {low or high, high}:
            check_feasible(geometry, space=self.space, limit=limit, price=price)
        self._floors = first_location_floors(geometry, space=self.space, price=price)
        self._fidelity: Fidelity | None = None
        self._told: list[int] = []
        self._results: list[Result] = []  # by number; beside it their numbers, accuracies and costs
        self._numbers: list[int] = []
        self._top1: list[float] = []
        self._costs: list[float] = []
        self._best: tuple[tuple[int, tuple[int, ...]], list[int]] = ((0, ()), [])
        self._pending: dict[int, UnderWay] = {}
        self._keys: set[str] = set()

    def tell(self, trial: Trial) -> None:
        """Take note of a trial: a result if it is final, a proposal under way if it is not.

        Baselines count as results. Failed, rejected and stopped trials give no result, but their schedules are not
        proposed again; reference trials are ignored. Telling a trial again changes nothing.

        Raises:
            ValueError: The trial is of another fidelity than those before; their numbers cannot be compared.
        """
        place = bisect.bisect_left(self._told, trial.number)
        if trial.origin is Origin.REFERENCE or self._told[place : place + 1] == [trial.number]:
            return
        if self._fidelity not in (None, trial.fidelity):
            raise ValueError(f"trial {trial.number} has fidelity {trial.fidelity}, those before {self._fidelity}")
        self._fidelity = trial.fidelity
        self._keys.add(trial.key)
        if not trial.state.is_final:
            if trial.proposal is not None:
                under_way = UnderWay(trial.schedule, trial.proposal.params)
                self._pending.setdefault(trial.proposal.index, under_way)
            return
        if trial.proposal is not None:
            self._pending.pop(trial.proposal.index, None)
        self._told.insert(place, trial.number)
        result = self._result(trial)
        if result is not None:
            place = bisect.bisect_left(self._numbers, result.number)
            self._results.insert(place, result)
            self._numbers.insert(place, result.number)
            self._top1.insert(place, result.top1)
            self._costs.insert(place, result.cost)

    def propose(self, index: int) -> tuple[Schedule, Proposal] | None:
        """Proposal `index` of the study; it counts as under way until its trial is told.

        Returns:
            A schedule that meets the budget and was neither told nor proposed before, and how it came about; None
            when no new schedule can be found any more.
        """
        for schedule, limit in itertools.chain(self.sampled(index), self._random_proposals(index)):
            if not self.is_new(schedule):
                continue
            params = self.params(schedule, limit=limit)
            self._keys.add(schedule.key(self.geometry))
            self._pending[index] = UnderWay(schedule, params)
            return schedule, Proposal(index=index, seed=self.derive(index), seen=tuple(self._told), params=params)
        return None

    @abstractmethod
    def sampled(self, index: int) -> Iterator[tuple[Schedule, float]]:
        """Schedules inside the space with the budgets they were made for, the most promising first.

        Those that are known already are passed over; when there are no more, random ones take over.
        """

    def is_new(self, schedule: Schedule) -> bool:
        """Whether a schedule was neither told nor proposed before."""
        return schedule.key(self.geometry) not in self._keys

    @property
    def num_results(self) -> int:
        """How many results there are, visible or not."""
        return len(self._results)

    def result_numbers(self, first: int) -> tuple[int, ...]:
        """Numbers of the trials of the first results."""
        return tuple(self._numbers[:first])

    def visible(self, first: int | None = None) -> list[Result]:
        """The results that the sampler learns from, in the order of the trials' numbers.

        Args:
            first: How many of the first ones are looked at; all if not given.
        """
        results = self._results[:first]
        num_newest, num_best = split(len(results), most=self.most_visible)
        older = len(results) - num_newest
        if not older:
            return results
        key = (num_best, self.result_numbers(older))
        if key != self._best[0]:
            costs = None if self.low is None else np.array(self._costs[:older])
            self._best = key, best(np.array(self._top1[:older]), costs, count=num_best).tolist()
        return [results[i] for i in self._best[1]] + results[older:]

    def under_way(self) -> list[UnderWay]:
        """The proposals under way, in the order of their indices."""
        return [pending for _, pending in sorted(self._pending.items())]

    def fit(self, shape: Shape, limit: float) -> Schedule | None:
        """The schedule of a shape that uses a budget up, or None if it cannot."""
        return fit_to_budget(self.geometry, space=self.space, shape=shape, limit=limit, price=self.price)

    def cost(self, schedule: Schedule) -> float:
        """Cost of a schedule in the unit of the price."""
        return (self.price or MACS).of(self.geometry, schedule)

    def params(self, schedule: Schedule, *, limit: float) -> Params:
        """Flat parameters of a schedule and its budget.

        Raises:
            SpaceError: The schedule is not of the space.
        """
        params = encode(schedule, geometry=self.geometry, space=self.space)
        if self.low is not None:
            params["budget"] = min(max(limit, self.low), self.high) / self.unit
        return params

    def spread_budget(self, place: int) -> float:
        """Budget `place` of a sequence that covers the range evenly however long it gets."""
        if self.low is None:
            return self.high
        share = (derive_seed(self._seed, "budgets") / 2**63 + _GOLDEN * place) % 1.0
        return self.rounded(self.low + share * (self.high - self.low))

    def rounded(self, limit: float) -> float:
        """A budget as it is counted: multiply-adds are whole."""
        return round(limit) if self.unit > 1.0 else limit

    def latest(self, limit: float) -> int:
        """Index of the last location at which a first step can still meet a budget."""
        return bisect.bisect_right(self._floors, limit) - 1

    def derive(self, index: int, attempt: int = 0) -> int:
        """Seed of an attempt at a proposal."""
        return derive_seed(self._seed, "proposal", index, attempt) % 2**32

    def _random_proposals(self, index: int) -> Iterator[tuple[Schedule, float]]:
        """Neighbours of the best results, and random schedules."""
        rng = np.random.default_rng(self.derive(index, _NUM_RANDOM))
        elite = self._elite()
        for draw in range(_DRAWS):
            limit = self.high
            if self.low is not None:
                limit = self.rounded(self.low + float(rng.random()) * (self.high - self.low))
            latest = self.latest(limit)
            if elite and draw % 4:
                known = decode(elite[int(rng.integers(len(elite)))], space=self.space)
                shape = mutate_shape(known, self.space, rng=rng, latest_first=latest)
            else:
                shape = draw_shape(self.space, rng=rng, latest_first=latest)
            schedule = self.fit(shape, limit)
            if schedule is not None:
                yield schedule, limit

    def _elite(self) -> list[Params]:
        """The best results inside the space: the most accurate ones, for a range the front."""
        results = [result for result in self._results if result.params is not None]
        if self.low is not None:
            chosen = [results[i] for i in pareto_front([(r.top1, r.cost) for r in results])]
        else:
            chosen = sorted(results, key=lambda result: -result.top1)[:_ELITE]
        return [result.params for result in chosen if result.params is not None]

    def _result(self, trial: Trial) -> Result | None:
        """What a told trial says about the objectives, or None."""
        top1 = trial.metrics.get("val_top1", math.nan)
        if trial.state is not TrialState.COMPLETE or not math.isfinite(top1):
            return None
        cost = float(trial.cost.macs) if self.price is None else self.price.of(self.geometry, trial.schedule)
        params: Params | None
        try:
            params = (
                dict(trial.proposal.params)
                if trial.proposal is not None
                else self.params(trial.schedule, limit=trial.budget_macs or cost)
            )
        except SpaceError:
            params = None  # a baseline outside the space
        return Result(trial.number, trial.schedule, top1, cost, params)
