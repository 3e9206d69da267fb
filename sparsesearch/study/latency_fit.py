"""What was learned of the latency of a backbone on a device: curves over token counts, as plain data.

`cost/latency_model.py` adds them up over a schedule; `cost/latency_fitting.py` finds them.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.study.latency_record import Conditions
from sparsesearch.value import Value


class Curve(Value):
    """Milliseconds of one part over a count of tokens. It never falls: no part of it is negative.

    Attributes:
        offset: Added to the count of patch tokens before anything else: the prefix tokens, where the part sees them.
        constant: Whatever the count.
        linear: For each token.
        quadratic: For each pair of tokens.
        steps: `(width, ms)`: added each time the count passes a multiple of the width, as hardware does that works
            in tiles.
        rises: `(from, to, ms)`: added evenly between two counts; a step where they are neighbours.
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
            raise ValueError("steps must have a width of at least 1 and must not fall")
        if any(not 0 <= start < end or ms < 0.0 for start, end, ms in self.rises):
            raise ValueError("rises must lead from a count to a larger one and must not fall")
        return self

    def values(self, most: int) -> NDArray[np.float64]:
        """Milliseconds at 0 to `most` patch tokens."""
        count = np.arange(most + 1, dtype=np.float64) + self.offset
        found = self.constant + self.linear * count + self.quadratic * count * count
        for width, ms in self.steps:
            found = found + ms * np.ceil(count / width)
        for start, end, ms in self.rises:
            found = found + ms * np.clip((count - start) / (end - start), 0.0, 1.0)
        return np.asarray(found, dtype=np.float64)


class HeldOutError(Value):
    """How wrong predictions are on whole schedules that the fit never saw. Shares: 0.01 is one percent.

    Attributes:
        num_schedules: How many there were.
        mean: Mean of the absolute error.
        worst: Largest absolute error.
        bias: Mean of measured over predicted, less 1.
        margin: What is added to a prediction before it is held against a budget: nine schedules of ten are to stay
            below. The larger of what nine held-out ones of ten did, and of that quantile of a normal distribution of
            their width.
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
        shape: Fingerprint of its stages; what is in front of and behind the blocks may differ.
        conditions: Under which it was measured.
        dense_ms: Measured latency of the dense timm model, the anchor of all measurements.
        curves: By name of the part.
        error: What it is worth.
    """

    backbone: str
    shape: str
    conditions: Conditions
    dense_ms: float = Field(gt=0.0)
    curves: dict[str, Curve]
    error: HeldOutError


def shape_of_stages(geometry: BackboneGeometry) -> str:
    """Fingerprint of name, image size and stages: equal where latencies of schedules can be exchanged."""
    stages = "".join(stage.model_dump_json() for stage in geometry.stages)
    return hashlib.sha256(f"{geometry.name}{geometry.image_size}{stages}".encode()).hexdigest()[:16]
