"""The `evolution` sampler: evolution guided by a Gaussian-process predictor of accuracy.

Between two evaluations, an inner evolution searches hundreds of shapes on a predictor that is fitted to the results so
far. The proposal maximises the expected improvement of the best accuracy or, for a range of budgets, of the
hypervolume. The best few candidates are scaled to their budgets exactly before one is selected.

Source: alternating evaluations with a search on a predictor follows LINAS (arXiv:2205.10358, section 3.3); the
criterion is expected improvement of accuracy or hypervolume.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.search.samplers.acquisition import Gain
from sparsesearch.search.samplers.arrays import Floats
from sparsesearch.search.samplers.genomes import genomes_of
from sparsesearch.search.samplers.inner_evolution import Candidates, InnerEvolution
from sparsesearch.search.samplers.kernel import Observations, Settings
from sparsesearch.search.samplers.likelihood import choose_settings
from sparsesearch.search.samplers.predictor import Predictor, on_error_scale
from sparsesearch.search.samplers.priors import best_at, transferred
from sparsesearch.search.samplers.proposer import Proposer, Result
from sparsesearch.search.samplers.steps import Features
from sparsesearch.space.encoding import decode, parameters, shape_of
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.sampling import Gene, genes_of, settle
from sparsesearch.space.shape import Shape
from sparsesearch.study.metric import VAL_TOP1, Metric
from sparsesearch.study.prior import Prior
from sparsesearch.study.protocols import Price

_OPENING = 10  # results before the predictor is used
_PRIOR_OPENING = 5  # the same, with a warm start from another study
_OPENERS = 3  # steps of the first shapes
_PARENTS = 16  # results that the inner evolution starts from
_EXACT = 3  # shapes that are scaled exactly per round
_ROUNDS = 16  # rounds before falling back to random shapes
_ATTEMPTS = 4  # opening shapes that are tried for one proposal
_BASELINE_EVERY = 3  # proposals of which one is within the cost of a hand-crafted schedule
_ALIKE = 0.97  # fraction of a single budget above which the cost of a hand-crafted schedule is a budget of its own
_WINDOW = 0.1  # width of the budget window of a proposal, as a fraction of the range


class EvolutionProposer(Proposer):
    """Proposes shapes by evolution guided by a predictor; see `Proposer`.

    Priors from another study are added to the observations of the predictor, with a constant offset and extra noise;
    the more results there are, the fewer priors are used.
    """

    most_visible = 120

    def __init__(
        self,
        geometry: BackboneGeometry,
        space: ResolvedSpace,
        *,
        low: float | None,
        high: float,
        seed: int,
        price: Price | None = None,
        priors: Sequence[Prior] = (),
        metric: Metric = VAL_TOP1,
    ) -> None:
        """Set up an empty proposer.

        Args:
            geometry: As in `Proposer`.
            space: As in `Proposer`.
            low: As in `Proposer`.
            high: As in `Proposer`.
            seed: As in `Proposer`.
            price: As in `Proposer`.
            priors: Results of another study, best first.
            metric: As in `Proposer`.

        Raises:
            BudgetError: No schedule of the space meets an end of the range.
        """
        super().__init__(geometry, space, low=low, high=high, seed=seed, price=price, metric=metric)
        self._features = Features(geometry, self.space)
        self._inner = InnerEvolution(geometry, self.space, features=self._features, price=price)
        self._rows: dict[int, int] = {}  # trial number to row of the features
        self._matrix: Floats = self._features.of(self._features.steps([]))
        self._genes: dict[int, list[Gene]] = {}
        self._learned: tuple[tuple[int, ...], Settings] | None = None
        self._dense = self.cost(Schedule())
        moved = [(prior, transferred(prior, geometry, self.space)) for prior in priors]
        self._priors = {prior: found for prior, found in moved if found is not None}
        self._prior_rows = self._features.of(self._features.steps([found[0] for found in self._priors.values()]))

    def sampled(self, index: int) -> Iterator[tuple[Schedule, float]]:
        """Shapes of the opening, then those of the evolution, most promising first."""
        if self.num_results < (_PRIOR_OPENING if self._priors else _OPENING):
            yield from self._opening(index)
        else:
            yield from self._evolved(index)

    def _opening(self, index: int) -> Iterator[tuple[Schedule, float]]:
        """The best shapes of another study, or evenly spaced ones; then a low-discrepancy sequence over the space."""
        openers = self._prior_openers() if self._priors else self._even_openers()
        chosen = openers[index : index + 1]
        for number in range(index, index + _ATTEMPTS * _OPENING, _OPENING):
            limit = self.spread_budget(number)
            chosen.append((self._spread_shape(number, limit), limit))
        for shape, limit in chosen:
            schedule = self.fit(shape, limit)
            if schedule is not None:
                yield schedule, limit

    def _prior_openers(self) -> list[tuple[Shape, float]]:
        """The best shapes of another study, over the range of budgets."""
        num = _PRIOR_OPENING if self.low is not None else 1
        limits = [self.high]
        if self.low is not None:
            limits = [self.rounded(float(limit)) for limit in np.linspace(self.high, self.low, num)]
        chosen = [(self._priors[best_at(list(self._priors), limit / self._dense)][1], limit) for limit in limits]
        if self.low is None:
            chosen += [(shape, self.high) for _, shape in list(self._priors.values())[: _PRIOR_OPENING - 1]]
        return chosen

    def _even_openers(self) -> list[tuple[Shape, float]]:
        """Equal drops evenly over the depth, and one location earlier, at the limit and the middle of the range."""
        num = min(max(_OPENERS, self.space.min_predictors), self.space.max_predictors)
        last = len(self.space.locations)
        limits = [self.high] if self.low is None else [self.high, self.rounded((self.low + self.high) / 2.0)]
        found = []
        for limit in limits:
            for earlier in (0, 1):
                genes = [Gene(position=last * (i + 1) // (num + 1) - earlier, weight=1.0) for i in range(num)]
                found.append((settle(genes, self.space, latest_first=self.latest(limit)), limit))
        return found

    def _spread_shape(self, number: int, limit: float) -> Shape:
        """Shape `number` of a low-discrepancy sequence over the parameters of the space.

        Source: M. Roberts, The Unreasonable Effectiveness of Quasirandom Sequences (2018): multiples of the powers of
        the inverse of the root of x^(d+1) = x + 1.
        """
        bounds = parameters(self.space)
        root = 2.0
        for _ in range(32):
            root = (1.0 + root) ** (1.0 / (len(bounds) + 1))
        shift = np.random.default_rng(self.derive(0, 1)).random(len(bounds))
        units = (shift + (number + 1) * root ** -np.arange(1.0, len(bounds) + 1)) % 1.0
        params: dict[str, int | float | str] = {}
        for bound, unit in zip(bounds, units.tolist(), strict=True):
            if bound.kind == "float":
                params[bound.name] = bound.low + unit * (bound.high - bound.low)
            else:
                params[bound.name] = int(bound.low) + int(unit * (bound.high - bound.low + 1))
        return decode(params, space=self.space, latest_first=self.latest(limit))

    def _evolved(self, index: int) -> Iterator[tuple[Schedule, float]]:
        """The candidates of the inner evolution; in rounds, scaled exactly and sorted by expected gain."""
        rng = np.random.default_rng(self.derive(index))
        results = self.visible()
        gain = self._gain(results)
        low, high = self._window(index)
        found = self._inner.run(self._parents(results, gain), gain, low=low, high=high, rng=rng)
        for start in range(0, min(len(found.limits_P), _EXACT * _ROUNDS), _EXACT):
            fits: list[tuple[Schedule, float]] = []
            for row in range(start, min(start + _EXACT, len(found.limits_P))):
                limit = self.rounded(float(found.limits_P[row]))
                shape = settle(found.genomes.genes(row), self.space, latest_first=self.latest(limit))
                schedule = self.fit(shape, limit)
                if schedule is not None and self.is_new(schedule):
                    fits.append((schedule, limit))
            if fits:
                x_PF = self._features.of(self._features.steps([schedule for schedule, _ in fits]))
                gains = gain(x_PF, np.array([limit for _, limit in fits]))
                yield from (fits[i] for i in np.argsort(-gains, kind="stable").tolist())

    def _window(self, index: int) -> tuple[float, float]:
        """The budgets that a proposal may have: the single one, or a window around one of an even sequence.

        At the cheap end, where accuracy falls steeply, the expected gain is overestimated; without windows, the search
        would concentrate there. Every third window ends at the cost of a hand-crafted schedule, so that each of them is
        searched for a better one of no higher cost.
        """
        is_at_baseline = index % _BASELINE_EVERY == 0
        if self.low is None:
            costs = self._baseline_costs(_ALIKE * self.high)
            limit = costs[0] if costs and is_at_baseline else self.high
            return limit, limit
        half = 0.5 * _WINDOW * (self.high - self.low)
        costs = self._baseline_costs(_ALIKE * self.low)
        if costs and is_at_baseline:
            cost = costs[index // _BASELINE_EVERY % len(costs)]
            return max(min(self.low, cost), cost - half), cost
        centre = min(max(self.spread_budget(index), self.low + half), self.high - half)
        return centre - half, centre + half

    def _baseline_costs(self, least: float) -> list[float]:
        """The costs of hand-crafted schedules above `least`, within the budget; the lowest of those that are alike."""
        found: list[float] = []
        for cost in sorted(baseline.cost for baseline in self.baselines.values()):
            if least < cost <= self.high and not (found and _ALIKE * cost <= found[-1]):
                found.append(cost)
        return found

    def _gain(self, results: Sequence[Result]) -> Gain:
        """The expected gain of an evaluation, given these results."""
        pending = [proposal.schedule for proposal in self.pending()]
        pending_PF = self._features.of(self._features.steps(pending)) if pending else None
        observed = self._observations(results)
        return Gain(
            Predictor(observed, self._settings(), pending_PF=pending_PF),
            costs_N=np.array([result.cost for result in results]),
            low=self.low,
            limit=self.high,
        )

    def _settings(self) -> Settings:
        """Hyperparameters of the predictor, refitted whenever there are about a tenth more results."""
        num = self.num_results
        cut = num - num % 2 ** max(0, int(np.log2(num / _OPENING)))
        key = self.result_numbers(cut)
        if self._learned is None or self._learned[0] != key:
            self._learned = (key, choose_settings(self._observations(self.visible(cut)), self._features.columns))
        return self._learned[1]

    def _observations(self, results: Sequence[Result]) -> Observations:
        new = [result for result in results if result.number not in self._rows]
        if new:
            self._rows.update({result.number: len(self._matrix) + i for i, result in enumerate(new)})
            rows = self._features.of(self._features.steps([result.schedule for result in new]))
            self._matrix = np.concatenate([self._matrix, rows])
        own_NF = self._matrix[[self._rows[result.number] for result in results]]
        num_priors = min(len(self._priors), max(0, self.most_visible - len(results)))
        own_N = np.array([result.score for result in results])
        foreign_N = np.array([prior.accuracy for prior in self._priors][:num_priors])
        if num_priors:  # relative to the best accuracy here instead of the dense one
            foreign_N *= own_N.max()
        return Observations(
            x_NF=np.concatenate([own_NF, self._prior_rows[:num_priors]]),
            y_N=on_error_scale(np.concatenate([own_N, foreign_N])),
            source_N=np.repeat([0, 1], [len(results), num_priors]),
        )

    def _parents(self, results: Sequence[Result], gain: Gain) -> Candidates:
        """The results closest to the front that are shapes of the space, and the hand-crafted schedules."""
        chosen: list[Result] = []
        for row in np.argsort(gain.gaps_N, kind="stable").tolist():
            if results[row].params is not None:
                chosen.append(results[row])
            if len(chosen) == _PARENTS:
                break
        known = {result.number for result in chosen}
        chosen += [
            baseline for number, baseline in sorted(self.baselines.items()) if number not in known and baseline.params
        ]
        genes = [self._genes_of(result) for result in chosen]
        limits = np.array([result.cost for result in chosen])
        return Candidates(genomes_of(genes, self.space), limits)

    def _genes_of(self, result: Result) -> list[Gene]:
        found = self._genes.get(result.number)
        if found is None:
            shape = shape_of(result.schedule, geometry=self.geometry, monotone=self.space.monotone)
            found = self._genes[result.number] = genes_of(shape.canonical(), self.space)
        return found
