"""The base class of samplers: told results, pending proposals, budgets, and no duplicates.

A proposal depends only on the seed of the study, its index, the results told and the pending proposals. A proposer that
is rebuilt and told the same trials therefore makes the same proposals.
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
from sparsesearch.space.encoding import Params, decode, encode
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.sampling import draw_shape, mutate_shape
from sparsesearch.space.shape import Shape
from sparsesearch.study.metric import VAL_TOP1, Metric
from sparsesearch.study.numbers import Numbers
from sparsesearch.study.protocols import Price
from sparsesearch.study.trial import Fidelity, Origin, Proposal, Trial, TrialState

_DRAWS = 400  # random shapes and mutations before the space counts as exhausted
_ELITE = 10  # most accurate results that random mutations start from
_NUM_RANDOM = 1000  # attempt number of random proposals; those of samplers are smaller, so that seeds differ
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


class Result(NamedTuple):
    """A trial with values of the objectives.

    Attributes:
        number: Number of the trial.
        schedule: The evaluated schedule.
        score: The metric, to be maximised.
        cost: Cost in the unit of the price.
        params: Flat parameters of the schedule, including the budget; None if it is outside the space.
    """

    number: int
    schedule: Schedule
    score: float
    cost: float
    params: Params | None


class PendingProposal(NamedTuple):
    """A pending proposal.

    Attributes:
        schedule: The schedule that is being evaluated.
        params: As in `Result`.
    """

    schedule: Schedule
    params: Params


class Proposer(ABC):
    """Proposes schedules within a budget. Not thread-safe.

    With a single budget, accuracy is maximised. With a range, the goal is a front, and every proposal has its own
    budget in the range.
    """

    most_visible = 500
    baselines: dict[int, Result]
    """Results of hand-crafted schedules, by number."""

    def __init__(
        self,
        geometry: BackboneGeometry,
        space: ResolvedSpace,
        *,
        low: float | None,
        high: float,
        seed: int,
        price: Price | None = None,
        metric: Metric = VAL_TOP1,
    ) -> None:
        """Set up an empty proposer.

        Args:
            geometry: The backbone.
            space: The search space.
            low: Lower end of the range of budgets in the unit of the price; None for a single budget.
            high: The budget, or the upper end of the range.
            seed: Seed of the study.
            price: The cost function; exact multiply-adds if None.
            metric: The metric to optimise.

        Raises:
            BudgetError: No schedule of the space meets an end of the range.
        """
        self.geometry, self.space = geometry, space
        self.low, self.high, self.price, self.metric = low, high, price, metric
        self.unit = 1.0 if price is not None and price.unit == "ms" else 1e9
        self._seed = seed
        for limit in {low or high, high}:
            check_feasible(geometry, space=self.space, limit=limit, price=price)
        self._floors = first_location_floors(geometry, space=self.space, price=price)
        self._fidelity: Fidelity | None = None
        self._told: list[int] = []
        self._results: list[Result] = []  # sorted by number; the lists below are parallel to it
        self._numbers: list[int] = []
        self._scores: list[float] = []
        self._costs: list[float] = []
        self._best: tuple[tuple[int, tuple[int, ...]], list[int]] = ((0, ()), [])
        self._pending: dict[int, PendingProposal] = {}
        self._keys: set[str] = set()
        self.baselines: dict[int, Result] = {}

    def tell(self, trial: Trial) -> None:
        """Register a trial: a result if it is final, otherwise a pending proposal.

        Baselines count as results. Failed and stopped trials give no result, but their schedules are not proposed
        again; reference trials are ignored. Telling a trial again changes nothing.

        Raises:
            ValueError: The trial is of another fidelity than the previous ones; they are not comparable.
        """
        index = bisect.bisect_left(self._told, trial.number)
        if trial.origin is Origin.REFERENCE or self._told[index : index + 1] == [trial.number]:
            return
        if self._fidelity not in (None, trial.fidelity):
            raise ValueError(
                f"trial {trial.number} has fidelity {trial.fidelity}, but previous trials have {self._fidelity}"
            )
        self._fidelity = trial.fidelity
        self._keys.add(trial.key)
        if not trial.state.is_final:
            if trial.proposal is not None:
                under_way = PendingProposal(trial.schedule, trial.proposal.params)
                self._pending.setdefault(trial.proposal.index, under_way)
            return
        if trial.proposal is not None:
            self._pending.pop(trial.proposal.index, None)
        self._told.insert(index, trial.number)
        result = self._result(trial)
        if result is not None:
            index = bisect.bisect_left(self._numbers, result.number)
            self._results.insert(index, result)
            self._numbers.insert(index, result.number)
            self._scores.insert(index, result.score)
            self._costs.insert(index, result.cost)
            if trial.origin is Origin.BASELINE:
                self.baselines[result.number] = result

    def propose(self, index: int) -> tuple[Schedule, Proposal] | None:
        """Make proposal `index` of the study; it is pending until its trial is told.

        Returns:
            A new schedule within the budget, with the record of how it was proposed; None if no new schedule can be
            found.
        """
        for schedule, limit in itertools.chain(self.sampled(index), self._random_proposals(index)):
            if not self.is_new(schedule):
                continue
            params = self.params(schedule, limit=limit)
            self._keys.add(schedule.key(self.geometry))
            self._pending[index] = PendingProposal(schedule, params)
            return schedule, Proposal(index=index, seed=self.derive(index), seen=Numbers(self._told), params=params)
        return None

    @abstractmethod
    def sampled(self, index: int) -> Iterator[tuple[Schedule, float]]:
        """Schedules of the space with their budgets, most promising first.

        Known schedules are skipped; when the iterator is exhausted, random schedules follow.
        """

    def is_new(self, schedule: Schedule) -> bool:
        """Whether a schedule was neither told nor proposed before."""
        return schedule.key(self.geometry) not in self._keys

    @property
    def num_results(self) -> int:
        """Number of results, visible or not."""
        return len(self._results)

    def result_numbers(self, first: int) -> tuple[int, ...]:
        """Trial numbers of the first results."""
        return tuple(self._numbers[:first])

    def visible(self, first: int | None = None) -> list[Result]:
        """The results that the sampler learns from, in order of trial numbers.

        Args:
            first: Consider only the first results; None for all.
        """
        results = self._results[:first]
        num_newest, num_best = split(len(results), most=self.most_visible)
        older = len(results) - num_newest
        if not older:
            return results
        key = (num_best, self.result_numbers(older))
        if key != self._best[0]:
            costs = None if self.low is None else np.array(self._costs[:older])
            self._best = key, best(np.array(self._scores[:older]), costs, count=num_best).tolist()
        return [results[i] for i in self._best[1]] + results[older:]

    def pending(self) -> list[PendingProposal]:
        """The pending proposals, in order of their indices."""
        return [pending for _, pending in sorted(self._pending.items())]

    def fit(self, shape: Shape, limit: float) -> Schedule | None:
        """The schedule of a shape that uses up a budget, or None if there is none."""
        return fit_to_budget(self.geometry, space=self.space, shape=shape, limit=limit, price=self.price)

    def cost(self, schedule: Schedule) -> float:
        """Cost of a schedule in the unit of the price."""
        return (self.price or MACS).of(self.geometry, schedule)

    def params(self, schedule: Schedule, *, limit: float) -> Params:
        """Flat parameters of a schedule and its budget.

        Raises:
            SpaceError: The schedule is not in the space.
        """
        params = encode(schedule, geometry=self.geometry, space=self.space)
        if self.low is not None:
            params["budget"] = min(max(limit, self.low), self.high) / self.unit
        return params

    def spread_budget(self, number: int) -> float:
        """Budget `number` of a low-discrepancy sequence over the range."""
        if self.low is None:
            return self.high
        unit = (derive_seed(self._seed, "budgets") / 2**63 + _GOLDEN * number) % 1.0
        return self.rounded(self.low + unit * (self.high - self.low))

    def rounded(self, limit: float) -> float:
        """A budget rounded to whole multiply-adds; milliseconds are unchanged."""
        return round(limit) if self.unit > 1.0 else limit

    def latest(self, limit: float) -> int:
        """Index of the last location at which a first step can still meet a budget."""
        return bisect.bisect_right(self._floors, limit) - 1

    def derive(self, index: int, attempt: int = 0) -> int:
        """Seed of an attempt at a proposal."""
        return derive_seed(self._seed, "proposal", index, attempt) % 2**32

    def _random_proposals(self, index: int) -> Iterator[tuple[Schedule, float]]:
        """Mutations of the best results, and random schedules."""
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
        """Parameters of the best results in the space: the most accurate ones, or the front for a range."""
        results = [result for result in self._results if result.params is not None]
        if self.low is not None:
            chosen = [results[i] for i in pareto_front([(r.score, r.cost) for r in results])]
        else:
            chosen = sorted(results, key=lambda result: -result.score)[:_ELITE]
        return [result.params for result in chosen if result.params is not None]

    def _result(self, trial: Trial) -> Result | None:
        """The result of a told trial, or None if it has none."""
        score = self.metric.score(trial.metrics)
        if trial.state is not TrialState.COMPLETE or not math.isfinite(score):
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
        return Result(trial.number, trial.schedule, score, cost, params)
