"""Schedules: the definition of a sparse model as a frozen value."""

from sparsesearch.schedule.resolve import check_step, stage_of
from sparsesearch.schedule.schedule import Schedule
from sparsesearch.schedule.step import (
    PHASE_ORDER,
    Phase,
    ResolvedStep,
    Step,
    default_scorer,
    last_attention,
    num_kept,
    num_layers,
    num_statistics,
)

__all__ = [
    "PHASE_ORDER",
    "Phase",
    "ResolvedStep",
    "Schedule",
    "Step",
    "check_step",
    "default_scorer",
    "last_attention",
    "num_kept",
    "num_layers",
    "num_statistics",
    "stage_of",
]
