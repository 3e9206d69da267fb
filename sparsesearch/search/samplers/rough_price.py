"""Approximate costs of many shapes at once: accurate enough to rank candidates, not to enforce a budget.

The cost of a schedule is composed of the costs of schedules with a single step: between two steps it costs what it
would cost if the first were the only one. Savings in scoring where fewer tokens arrive are neglected.

Shapes: `P` genomes, `S` steps at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from sparsesearch.cost.separable import MACS
from sparsesearch.schedule import num_kept
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.search.samplers.arrays import Floats
from sparsesearch.search.samplers.genomes import Genomes
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.shape import ShapeStep
from sparsesearch.study.protocols import Price

_BISECTIONS = 10


class RoughPrice:
    """Scales genomes to budgets, approximately.

    Args:
        geometry: The backbone.
        space: The search space.
        price: The cost function; exact multiply-adds if None.
    """

    def __init__(self, geometry: BackboneGeometry, space: ResolvedSpace, *, price: Price | None = None) -> None:
        price = price or MACS
        self._monotone = space.monotone
        locations, methods = space.locations, space.methods
        self._stage_L = np.array([stage for stage, _ in locations])
        self._total_L = np.array([geometry.stages[stage].num_tokens for stage, _ in locations])
        self._least_L = np.array(
            [num_kept(geometry.stages[stage].num_tokens, space.ratio_limits(stage)[0]) for stage, _ in locations]
        )
        self._dense = float(price.tables(geometry, ()).base)
        self._gain_LMC = np.zeros((len(locations), len(methods), int(self._total_L.max()) + 1))
        for position, (stage, block) in enumerate(locations):
            for index, wanted in enumerate(methods):
                able = [m for m in (wanted, *methods) if m.is_possible_at((stage, block))]
                if able:
                    method = able[0]
                    step = ShapeStep(
                        stage=stage, block=block, phase=method.phase, reducer=method.reducer, scorer=method.scorer
                    )
                    tables = price.tables(geometry, (step,))
                    self._gain_LMC[position, index, : len(tables.tables[0])] = (
                        tables.base + tables.tables[0] - self._dense
                    )

    def scaled(self, genomes: Genomes, limits_P: Floats) -> tuple[Floats, Floats]:
        """Scale genomes so that they cost about their budgets.

        Args:
            genomes: Shapes.
            limits_P: One budget per genome.

        Returns:
            `P x S` logarithms of the fractions of tokens left after each step, and `P` costs; a cost above its budget
            means that the shape cannot meet it.
        """
        exponents_PS, cost = self._exponents(genomes), self.pricing(genomes)
        low_P = np.zeros(len(limits_P))
        high_P = np.full(len(limits_P), math.log(2.0 * float(self._total_L.max())))
        for _ in range(_BISECTIONS):
            middle_P = 0.5 * (low_P + high_P)
            within_P = cost(-middle_P[:, None] * exponents_PS) <= limits_P
            high_P, low_P = np.where(within_P, middle_P, high_P), np.where(within_P, low_P, middle_P)
        log_left_PS = -high_P[:, None] * exponents_PS
        least_PS = np.log(self._least_L / self._total_L)[genomes.location_PS]
        return np.maximum(log_left_PS, least_PS), cost(log_left_PS)

    def _exponents(self, genomes: Genomes) -> Floats:
        """As in `Shape.exponents`; 0 for inactive steps."""
        weight_PS = np.where(genomes.used_PS, genomes.weight_PS, 0.0)
        if self._monotone:
            stage_PS = self._stage_L[genomes.location_PS]
            total_PS = weight_PS.copy()
            for step in range(1, weight_PS.shape[1]):
                goes_on = stage_PS[:, step] == stage_PS[:, step - 1]
                total_PS[:, step] += np.where(goes_on, total_PS[:, step - 1], 0.0)
            weight_PS = np.where(genomes.used_PS, total_PS, 0.0)
        exponents_PS: Floats = weight_PS / weight_PS.max(axis=1, keepdims=True)
        return exponents_PS

    def pricing(self, genomes: Genomes) -> Callable[[Floats], Floats]:
        """The cost of these genomes as a function of the logarithms of the fractions left after each step."""
        location_PS, method_PS, used_PS = genomes.location_PS, genomes.method_PS, genomes.used_PS
        total_PS, least_PS = self._total_L[location_PS], self._least_L[location_PS]
        num_counts = self._gain_LMC.shape[2]
        gains = self._gain_LMC.ravel()
        here_PS = (location_PS * self._gain_LMC.shape[1] + method_PS) * num_counts
        goes_on_PS = used_PS[:, 1:] & (self._stage_L[location_PS[:, 1:]] == self._stage_L[location_PS[:, :-1]])
        later_PS = (location_PS[:, 1:] * self._gain_LMC.shape[1] + method_PS[:, :-1]) * num_counts

        def cost(log_left_PS: Floats) -> Floats:
            count_PS = np.clip((total_PS * np.exp(log_left_PS)).astype(np.int64), least_PS, total_PS)
            gain_PS = used_PS * gains[here_PS + count_PS]
            gain_PS[:, :-1] -= goes_on_PS * gains[later_PS + count_PS[:, :-1]]
            cost_P: Floats = self._dense + gain_PS.sum(axis=1)
            return cost_P

        return cost
