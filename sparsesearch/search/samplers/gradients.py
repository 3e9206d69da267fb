"""The `gradients` sampler: starts from what gradients say to keep at each block, and goes on as `evolution` does.

For each way of ranking tokens, a `counts` trial learns the drops of all blocks at once, through the frozen weights that
schedules are evaluated with. The first proposals are step functions that come closest to what was learned, with each
reduction that fits the ranking; the predictor learns from them, and evolution starts from the best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from sparsesearch.schedule import Schedule
from sparsesearch.search.samplers.arrays import Floats
from sparsesearch.search.samplers.evolution import EvolutionProposer
from sparsesearch.space.sampling import Gene, settle
from sparsesearch.space.shape import Method, Shape
from sparsesearch.study.learned_counts import LearnedCounts, position_of
from sparsesearch.study.trial import Fidelity, Trial, TrialState

_AT_BUDGETS = 6  # budgets of a range at which learned counts are proposed
_BEST = 4  # methods that are proposed at each of them
_NEGLIGIBLE = 1e-3


class GradientsProposer(EvolutionProposer):
    """Proposes what `counts` trials learned, then as `EvolutionProposer`; see there."""

    @cached_property
    def _counts(self) -> dict[int, tuple[Method, LearnedCounts]]:
        """What was learned, by number of the trial."""
        return {}

    def tell(self, trial: Trial) -> None:
        """Register a trial, as in `Proposer`; what a `counts` trial learned is proposed from then on."""
        if trial.fidelity is Fidelity.COUNTS:
            if trial.state is TrialState.REFERENCE and trial.metrics:
                steps = trial.schedule.steps
                blocks = [(step.stage, step.block) for step in steps]
                method = Method(reducer=steps[0].reducer, scorer=steps[0].scorer, phase=steps[0].phase)
                self._counts[trial.number] = method, LearnedCounts.of_metrics(trial.metrics, blocks)
            return
        super().tell(trial)

    def sampled(self, index: int) -> Iterator[tuple[Schedule, float]]:
        """Learned counts, then shapes as in `EvolutionProposer`."""
        methods = self._methods()
        chosen = [(method, learned, self.high) for method, learned in methods]
        if self.low is not None:
            limits = np.linspace(self.high, self.low, _AT_BUDGETS).tolist()
            chosen = [(*one, self.rounded(limit)) for one in methods[:_BEST] for limit in limits]
        for method, learned, limit in chosen[index : index + 1]:
            schedule = self.fit(self._shape(method, learned, limit), limit)
            if schedule is not None:
                yield schedule, limit
        yield from super().sampled(index)

    def _methods(self) -> list[tuple[int, LearnedCounts]]:
        """The methods of the space that keep tokens by a learned ranking, or merge: those of the least loss first."""
        found: list[tuple[int, LearnedCounts]] = []
        for known, learned in sorted(self._counts.values(), key=lambda one: one[1].loss):
            for index, method in enumerate(self.space.methods):
                fits = method.scorer == known.scorer or method.scorer is None
                if fits and method.phase == known.phase and all(index != taken for taken, _ in found):
                    found.append((index, learned))
        return found

    def _shape(self, method: int, learned: LearnedCounts, limit: float) -> Shape:
        """The shape of the space that is closest to what was learned."""
        weights = np.array(learned.weights(position_of(limit, low=self.low, high=self.high)))
        places = [self.space.locations.index(block) for block in learned.blocks]
        stages = [stage for stage, _ in learned.blocks]
        levels = _summed(weights, stages) if self.space.monotone else weights
        genes = [
            Gene(position=places[place], weight=weight, method=method)
            for place, weight in closest_steps(
                levels,
                stages,
                least=self.space.min_predictors,
                most=self.space.max_predictors,
                is_cumulative=self.space.monotone,
            )
        ]
        return settle(genes, self.space, latest_first=self.latest(limit))


def closest_steps(
    levels: Floats, stages: Sequence[int], *, least: int = 1, most: int, is_cumulative: bool
) -> list[tuple[int, float]]:
    """The step function with a number of steps that is closest to a curve, by the sum of squared differences.

    Args:
        levels: The curve, one value per block, not negative; a step function is 0 before its first step in a stage.
        stages: The stage of each block.
        least: Minimum number of steps.
        most: Maximum number of steps.
        is_cumulative: Whether the weight of a step is the difference to the step before; otherwise it is its level.

    Returns:
        Positions and weights of the fewest steps whose error is at most 0.1 % of the curve's squares above the least.
    """
    num = len(levels)
    most = min(most, num)
    sums = np.concatenate([[0.0], np.cumsum(levels)])
    squares = np.concatenate([[0.0], np.cumsum(levels**2)])
    error = np.full((most + 1, num + 1), np.inf)  # of the first blocks with so many steps
    error[0, 0] = 0.0
    came_from = np.zeros((most + 1, num + 1, 2), dtype=np.int64)
    for end in range(1, num + 1):
        first = next(i for i in range(num) if stages[i] == stages[end - 1])
        for start in range(first, end):
            spread = squares[end] - squares[start]
            with_step = spread - (sums[end] - sums[start]) ** 2 / (end - start)
            for used in range(most + 1):
                ways = [(error[used - 1, start] + with_step, used - 1)] if used else []
                if start == first:
                    ways.append((error[used, start] + spread, used))
                for found, before in ways:
                    if found < error[used, end] - 1e-12:
                        error[used, end], came_from[used, end] = found, (before, start)
    least = min(least, most)
    enough = error[least:, num] <= error[least:, num].min() + _NEGLIGIBLE * squares[-1]
    used, end = least + int(np.argmax(enough)), num
    segments: list[tuple[int, float]] = []
    while end:
        before, start = came_from[used, end].tolist()
        if before < used:
            segments.append((start, float(sums[end] - sums[start]) / (end - start)))
        used, end = before, start
    steps = segments[::-1]
    if not is_cumulative:
        return steps
    return [
        (start, level - (steps[i - 1][1] if i and stages[steps[i - 1][0]] == stages[start] else 0.0))
        for i, (start, level) in enumerate(steps)
    ]


def _summed(weights: Floats, stages: Sequence[int]) -> Floats:
    """Cumulative sums within each stage."""
    sums: Floats = np.cumsum(weights)
    before = {stage: sums[i] - weights[i] for i, stage in reversed(list(enumerate(stages)))}
    within: Floats = sums - np.array([before[stage] for stage in stages])
    return within
