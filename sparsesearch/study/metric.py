"""The metric that a study optimises next to the cost: its name, direction, unit and words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from sparsesearch.value import Value


class Metric(Value):
    """A validation metric.

    Attributes:
        name: Its key in the metrics of a measurement.
        higher_is_better: Its direction.
        unit: `fraction` of validation images, shown in percent, or a `number` without a unit.
        words: Its name in text and on axes: `validation accuracy`.
        short: Its name in table heads: `val accuracy`.
    """

    name: str
    higher_is_better: bool
    unit: Literal["fraction", "number"]
    words: str
    short: str

    def of(self, metrics: Mapping[str, float]) -> float:
        """The value in the metrics of a measurement; NaN if it is not among them."""
        return metrics.get(self.name, math.nan)

    def score(self, metrics: Mapping[str, float]) -> float:
        """The value to maximise: negated if lower is better; NaN if it is not among the metrics."""
        return self.of(metrics) if self.higher_is_better else -self.of(metrics)

    def of_score(self, score: float) -> float:
        """The value that has a score."""
        return score if self.higher_is_better else -score

    def relative(self, value: float, to: float) -> float:
        """How good a value is relative to another, both positive: above 1 if it is better."""
        return value / to if self.higher_is_better else to / value

    def standard_error(self, metrics: Mapping[str, float]) -> float | None:
        """Standard error of the value, in its unit; None if its number of images is unknown, or it is no fraction."""
        value, images = self.of(metrics), metrics.get("val_images", 0.0)
        is_known = self.unit == "fraction" and images > 0.0 and 0.0 <= value <= 1.0
        return math.sqrt(value * (1.0 - value) / images) if is_known else None

    def shown(self, value: float) -> float:
        """A value, or a difference of values, in the unit that it is shown in."""
        return 100 * value if self.unit == "fraction" else value

    def text(self, value: float, *, digits: int = 2) -> str:
        """Format a value: `95.30 %`, or `0.3120`."""
        return f"{100 * value:.{digits}f} %" if self.unit == "fraction" else f"{value:.4g}"

    @property
    def title(self) -> str:
        """Title of its axis: `validation accuracy, %`."""
        return self.titled(self.words)

    def titled(self, words: str) -> str:
        """Words with the unit that it is shown in."""
        return f"{words}, %" if self.unit == "fraction" else words

    @property
    def difference_title(self) -> str:
        """Title of a difference: `difference, points`."""
        return "difference, points" if self.unit == "fraction" else "difference"


VAL_TOP1 = Metric(
    name="val_top1", higher_is_better=True, unit="fraction", words="validation accuracy", short="val accuracy"
)
"""Top-1 accuracy of classification, the only task so far."""
