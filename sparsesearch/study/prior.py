"""What a study knows from another one: trials in relative terms, which hold for other budgets, data and backbones."""

from __future__ import annotations

from pydantic import Field

from sparsesearch.schedule import Phase
from sparsesearch.schedule.methods import Reducer, Scorer
from sparsesearch.value import Value


class PriorStep(Value):
    """A step of a schedule, wherever it would be on another backbone.

    Attributes:
        stage: Index of its stage over the last one's; 0 where there is one stage.
        depth: Blocks of the stage in front of it, as a share of all.
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
        accuracy: Its `val_top1` over that of its study's dense model.
        cost: Its multiply-adds over those of the dense model.
    """

    steps: tuple[PriorStep, ...] = Field(min_length=1)
    accuracy: float = Field(ge=0.0, allow_inf_nan=False)
    cost: float = Field(gt=0.0, allow_inf_nan=False)
