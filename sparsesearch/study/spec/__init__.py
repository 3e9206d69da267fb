"""The study document. Every flag of `sparsesearch run` is a field here."""

from sparsesearch.study.spec.budget import Budget, BudgetUnit
from sparsesearch.study.spec.data import DataSpec
from sparsesearch.study.spec.fidelity import FidelitySpec, RungSpec, Strategy
from sparsesearch.study.spec.io import executed_by, read_document
from sparsesearch.study.spec.latency import LatencySpec
from sparsesearch.study.spec.renamed import notes_on_renamed
from sparsesearch.study.spec.resources import ResourceSpec
from sparsesearch.study.spec.study import (
    DEFAULT_DISPATCHER,
    MAX_SEED,
    NAME_PATTERN,
    DispatcherName,
    PickName,
    Resolved,
    SamplerName,
    StudySpec,
)
from sparsesearch.study.spec.training import RAND_AUGMENT, Augmentation, TrainSpec

__all__ = [
    "DEFAULT_DISPATCHER",
    "MAX_SEED",
    "NAME_PATTERN",
    "RAND_AUGMENT",
    "Augmentation",
    "Budget",
    "BudgetUnit",
    "DataSpec",
    "DispatcherName",
    "FidelitySpec",
    "LatencySpec",
    "PickName",
    "Resolved",
    "ResourceSpec",
    "RungSpec",
    "SamplerName",
    "Strategy",
    "StudySpec",
    "TrainSpec",
    "executed_by",
    "notes_on_renamed",
    "read_document",
]
