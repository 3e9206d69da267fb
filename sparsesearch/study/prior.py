"""Priors: trials of another study in relative terms, transferable to other budgets, data and backbones."""

from __future__ import annotations

from pydantic import Field

from sparsesearch.schedule import Phase
from sparsesearch.schedule.methods import Reducer, Scorer
from sparsesearch.value import Value


class PriorStep(Value):
    """A step of a schedule, at a relative location.

    Attributes:
        stage: Index of its stage over that of the last stage; 0 with one stage.
        depth: Blocks of the stage before it, as a fraction of all.
        phase: As in `Step`.
        keep_ratio: As in `Step`.
        reducer: As in `Step`.
        scorer: As in `Step`.
    """

    stage: float = Field(ge=0.0, le=1.0)
    depth: float = Field(ge=0.0, lt=1.0)
    phase: Phase = "before_block"
    keep_ratio: float = Field(gt=0.0, le=1.0)
    reducer: Reducer
    scorer: Scorer | None


class Prior(Value):
    """An evaluated schedule of another study.

    Attributes:
        steps: Its steps in order.
        accuracy: Its metric relative to that of the dense model of its study, above 1 if better.
        cost: Its multiply-adds over those of the dense model.
    """

    steps: tuple[PriorStep, ...] = Field(min_length=1)
    accuracy: float = Field(ge=0.0, allow_inf_nan=False)
    cost: float = Field(gt=0.0, allow_inf_nan=False)
