"""Linear axes: from values to pixels, and round tick values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """A linear axis.

    Attributes:
        low: Value at `start`.
        high: Value at `end`, above `low`.
        start: Pixels.
        end: Pixels; below `start` for an axis that points up.
    """

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Iterable[float], *, start: float, end: float, room: float = 0.06) -> Scale:
        """An axis over all finite values, with a margin on both sides; over [0, 1] if there are none."""
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        extent = room * (high - low) or 0.05 * abs(high) or 1.0
        return cls(low - extent, high + extent, start, end)

    def __call__(self, value: float) -> float:
        """The position of a value in pixels; values outside the axis are mapped outside it."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """About `count` round values inside the axis."""
        rough = (self.high - self.low) / max(1, count)
        magnitude = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * magnitude for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * magnitude >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


def tick_texts(ticks: list[float]) -> list[str]:
    """Evenly spaced values with just enough digits to distinguish them."""
    if len(ticks) < 2:
        return [f"{tick:g}" for tick in ticks]
    step = ticks[1] - ticks[0]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(step * 10**digits - round(step * 10**digits)) > 1e-6:  # 0.025
        digits += 1
    return [f"{tick:.{digits}f}".replace("-0." if float(f"{tick:.{digits}f}") == 0 else "\0", "0.") for tick in ticks]
