"""Fitted latency of a backbone on a device: curves over token counts, as plain data.

`cost/latency_model.py` sums them over a schedule; `latency/profile/latency_fitting.py` fits them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.study.latency_record import Conditions
from sparsesearch.value import Value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Curve(Value):
    """Milliseconds of one part as a function of a token count. It is non-decreasing: no term is negative.

    Attributes:
        offset: Added to the count of patch tokens first: the prefix tokens, if the part processes them.
        constant: Milliseconds independent of the count.
        linear: Milliseconds per token.
        quadratic: Milliseconds per pair of tokens.
        steps: `(width, ms)`: added each time the count passes a multiple of the width, as on hardware that works in
            tiles.
        rises: `(from, to, ms)`: added linearly between two counts; a step if they are adjacent.
    """

    offset: int = Field(default=0, ge=0)
    constant: float = Field(default=0.0, ge=0.0)
    linear: float = Field(default=0.0, ge=0.0)
    quadratic: float = Field(default=0.0, ge=0.0)
    steps: tuple[tuple[int, float], ...] = ()
    rises: tuple[tuple[int, int, float], ...] = ()

    @model_validator(mode="after")
    def _never_falls(self) -> Curve:
        if any(width < 1 or ms < 0.0 for width, ms in self.steps):
            raise ValueError("invalid steps; each needs a width of at least 1 and milliseconds of at least 0")
        if any(not 0 <= start < end or ms < 0.0 for start, end, ms in self.rises):
            raise ValueError(
                "invalid rises; each must go from a count to a larger one and have milliseconds of at least 0"
            )
        return self

    def values(self, most: int) -> NDArray[np.float64]:
        """Milliseconds at 0 to `most` patch tokens."""
        import numpy as np  # commands that only read studies do not need it

        count = np.arange(most + 1, dtype=np.float64) + self.offset
        found = self.constant + self.linear * count + self.quadratic * count * count
        for width, ms in self.steps:
            found = found + ms * np.ceil(count / width)
        for start, end, ms in self.rises:
            found = found + ms * np.clip((count - start) / (end - start), 0.0, 1.0)
        return np.asarray(found, dtype=np.float64)


class HeldOutError(Value):
    """Relative prediction error on held-out schedules; 0.01 is one percent.

    Attributes:
        num_schedules: Number of held-out schedules.
        mean: Mean of the absolute error.
        worst: Largest absolute error.
        bias: Mean of measured over predicted, minus 1.
        margin: Added to a prediction before it is compared with a budget, so that 90 % of schedules stay below. The
            larger of the 90 % quantile of the held-out errors and that of a normal distribution of the same width.
    """

    num_schedules: int = Field(ge=0)
    mean: float = Field(ge=0.0)
    worst: float = Field(ge=0.0)
    bias: float
    margin: float = Field(ge=0.0)


class LatencyFit(Value):
    """The latency of every schedule of one backbone under fixed conditions.

    Attributes:
        backbone: Resolved backbone name.
        shape: Fingerprint of its stages; what is before and after the blocks may differ.
        conditions: Conditions of the measurements.
        dense_ms: Measured latency of the dense timm model, the reference of all measurements.
        curves: Curves by name of the part.
        error: Its prediction error.
    """

    backbone: str
    shape: str
    conditions: Conditions
    dense_ms: float = Field(gt=0.0)
    curves: dict[str, Curve]
    error: HeldOutError


def shape_of_stages(geometry: BackboneGeometry) -> str:
    """Fingerprint of name, image size and stages; equal if schedules have equal latencies."""
    stages = "".join(stage.model_dump_json() for stage in geometry.stages)
    return hashlib.sha256(f"{geometry.name}{geometry.image_size}{stages}".encode()).hexdigest()[:16]
