"""Budgets: an upper limit of the cost per image, or a range of limits."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from sparsesearch.errors import SpecError, one_line
from sparsesearch.study.spec.renamed import renamed
from sparsesearch.study.trial import Axis
from sparsesearch.value import Value

BudgetUnit = Literal["gflops", "fraction", "ms"]


class Budget(Value):
    """An upper limit of the cost per image, or a range that requests a front.

    Attributes:
        unit: `gflops` counts 10^9 multiply-adds (the literature's GFLOPs); `fraction` is a fraction of the dense cost;
            `ms` is milliseconds per call on the target.
        low: Lower end of a range; None for a single budget.
        high: The limit.
    """

    unit: BudgetUnit = "fraction"
    low: float | None = None
    high: float = Field(gt=0.0, le=1e12)

    @model_validator(mode="before")
    @classmethod
    def _of_older_version(cls, data: object) -> object:
        return renamed("budget", data)

    @model_validator(mode="after")
    def _ordered(self) -> Budget:
        if self.low is not None and not 0.0 < self.low < self.high:
            raise ValueError(f"invalid range {self.low:g}:{self.high:g}; it must satisfy 0 < LOW < HIGH")
        return self

    @classmethod
    def parse(cls, text: str, unit: BudgetUnit) -> Budget:
        """Parse `3.0`, `2.0:3.0` (gflops, ms) or `35%`, `20%:45%` (fraction of dense).

        Raises:
            SpecError: The text does not have that form.
        """
        percent = unit == "fraction"
        number = r"\s*([0-9]*\.?[0-9]+)\s*" + ("%" if percent else "") + r"\s*"
        match = re.fullmatch(f"(?:{number}:)?{number}", text)
        if match is None:
            example = "'35%' or '20%:45%'" if percent else "'3.0' or '2.0:3.0'"
            raise SpecError(f"invalid budget {text!r}; write it as {example}")
        scale = 100.0 if percent else 1.0
        low, high = match.groups()
        try:
            return cls(unit=unit, low=None if low is None else float(low) / scale, high=float(high) / scale)
        except ValidationError as error:
            raise SpecError(f"budget {text!r}: {one_line(error)}") from error

    @property
    def axis(self) -> Axis:
        """The cost that it limits."""
        return "ms" if self.unit == "ms" else "macs"

    def limits(self, dense_macs: int) -> tuple[float | None, float]:
        """Lower end (None for a single budget) and limit, in multiply-adds or milliseconds."""
        return (self.low, self.high) if self.unit == "ms" else self.macs(dense_macs)

    def macs(self, dense_macs: int) -> tuple[int | None, int]:
        """Lower end (None for a single budget) and limit in multiply-adds; not for a budget of milliseconds."""
        assert self.unit != "ms", "a budget in milliseconds has no multiply-adds"
        scale = 1e9 if self.unit == "gflops" else float(dense_macs)
        return (None if self.low is None else round(self.low * scale), round(self.high * scale))

    def __str__(self) -> str:
        if self.unit == "fraction":
            low = "" if self.low is None else f"{self.low:.4g}:".replace(f"{self.low:.4g}", f"{self.low * 100:.4g}%")
            return f"{low}{self.high * 100:.4g}% of dense"
        low = "" if self.low is None else f"{self.low:g}:"
        if self.unit == "ms":
            return f"{low}{self.high:g} ms"
        return f"{low}{self.high:g} GFLOPs (multiply-adds)"
