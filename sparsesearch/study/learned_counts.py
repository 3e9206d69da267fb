"""How many tokens gradients say to keep at each block, as a function of the budget: the result of a `counts` trial."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sparsesearch.schedule import Schedule
from sparsesearch.space.countable import countable_methods, everywhere
from sparsesearch.space.shape import Method
from sparsesearch.study.spec import StudySpec
from sparsesearch.value import Value

BATCH = 64
"""Images of a step that learns counts."""

Block = tuple[int, int]

_STEPS, _STEPS_OF_RANGE = 60, 120
_LEVEL, _TREND = "level", "trend"


class LearnedCounts(Value):
    """The relative drops before (or in) each block, whose logarithms are linear in the budget.

    Attributes:
        blocks: Stage and block of each, in order.
        levels: Logarithm of the weight of each in the middle of the range of budgets.
        trends: What is added to it at the upper end of the range, and subtracted at the lower end.
        loss: Mean loss of the last steps.
    """

    blocks: tuple[Block, ...]
    levels: tuple[float, ...]
    trends: tuple[float, ...]
    loss: float

    def weights(self, position: float) -> list[float]:
        """The weights at a budget; only their ratios matter.

        Args:
            position: The budget, from -1 at the lower end of the range to 1 at its upper end; 0 for a single one.
        """
        return [math.exp(level + position * trend) for level, trend in zip(self.levels, self.trends, strict=True)]

    def metrics(self) -> dict[str, float]:
        """Itself as the metrics of a measurement."""
        found = {"train_loss": self.loss}
        for (stage, block), level, trend in zip(self.blocks, self.levels, self.trends, strict=True):
            found[f"{_LEVEL}_{stage}_{block}"] = level
            found[f"{_TREND}_{stage}_{block}"] = trend
        return found

    @classmethod
    def of_metrics(cls, metrics: Mapping[str, float], blocks: Sequence[Block]) -> LearnedCounts:
        """The result of `metrics`.

        Args:
            metrics: The metrics of a `counts` trial.
            blocks: The blocks of its schedule.
        """
        return cls(
            blocks=tuple(blocks),
            levels=tuple(metrics[f"{_LEVEL}_{stage}_{block}"] for stage, block in blocks),
            trends=tuple(metrics[f"{_TREND}_{stage}_{block}"] for stage, block in blocks),
            loss=metrics["train_loss"],
        )


def position_of(limit: float, *, low: float | None, high: float) -> float:
    """The position of a budget in its range, from -1 to 1; 0 for a single budget."""
    return 0.0 if low is None else 2.0 * (limit - low) / (high - low) - 1.0


def counted_schedules(spec: StudySpec) -> list[tuple[Method, Schedule]]:
    """The `counts` trials of a prepared study: a method, and the schedule that has it everywhere."""
    if spec.sampler != "gradients" or spec.resolved is None:
        return []
    space, geometry = spec.resolved.space, spec.resolved.geometry
    methods = countable_methods(space, has_trained_scorers=spec.fidelity.trains_supernet)
    found = [(method, everywhere(space, geometry, method)) for method in methods]
    return [(method, schedule) for method, schedule in found if schedule is not None]


def num_steps(spec: StudySpec) -> int:
    """Steps of a `counts` trial: more for a range of budgets, of which each step has one."""
    return _STEPS_OF_RANGE if spec.budget.low is not None else _STEPS
