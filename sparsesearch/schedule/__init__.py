"""The one currency: what a sparse model is, as a frozen value."""

from sparsesearch.schedule.resolve import check_step, stage_of
from sparsesearch.schedule.schedule import Schedule
from sparsesearch.schedule.step import (
    PHASE_ORDER,
    Phase,
    ResolvedStep,
    Step,
    last_attention,
    num_kept,
    num_layers,
    num_statistics,
    usual_scorer,
)

__all__ = [
    "PHASE_ORDER",
    "Phase",
    "ResolvedStep",
    "Schedule",
    "Step",
    "check_step",
    "last_attention",
    "num_kept",
    "num_layers",
    "num_statistics",
    "stage_of",
    "usual_scorer",
]
