"""Opens what a prepared study names - backbone, data, device, checkpoints - in whatever process works on it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sparsesearch.data.inputs import open_task
from sparsesearch.errors import DataError
from sparsesearch.evaluate.deadline import Deadline
from sparsesearch.evaluate.evaluator import StudyEvaluator
from sparsesearch.evaluate.portable import PortableEvaluator
from sparsesearch.evaluate.throughput import open_device
from sparsesearch.study.progress import Silent
from sparsesearch.study.protocols import Evaluator
from sparsesearch.study.spec import StudySpec
from sparsesearch.training.cache import TrainingCache
from sparsesearch.training.checkpoints import CheckpointFolder
from sparsesearch.training.kinds import TrainingContext
from sparsesearch.training.loop import Arithmetic
from sparsesearch.value import Value


def open_context(spec: StudySpec) -> TrainingContext:
    """Backbone, data and arithmetic of a prepared study.

    Raises:
        DataError: The data has changed since the study was prepared.
    """
    resolved = spec.resolved
    assert resolved is not None, "only prepared studies are stored"
    task = open_task(spec.data, backbone=spec.backbone)
    if task.fingerprint != resolved.data_fingerprint:
        raise DataError(
            f"the data {spec.data.source!r} is not what study {spec.name!r} began with; "
            "put it back, or start a new study"
        )
    arithmetic = Arithmetic.of(spec.precision, device=open_device(spec.device))
    return TrainingContext(spec.backbone, resolved.geometry, task, arithmetic, seed=spec.seed)


class _Order(Value):
    """What a worker needs to open a study's evaluator.

    Attributes:
        spec: The study, prepared; its device is the worker's.
        storage: Root of the checkpoints.
        cache: Folder of trainings that studies share.
        started_at: When the time budget began to run, in seconds since the epoch, which all machines agree on.
    """

    spec: StudySpec
    storage: Path
    cache: Path
    started_at: float


def portable_evaluator(spec: StudySpec, *, storage: Path, cache: Path, elapsed_s: float) -> PortableEvaluator:
    """The evaluator of a prepared study, to be opened by the processes that work on it.

    Args:
        spec: The study; its device is `cpu` or `cuda`, without a number: a worker sees only the GPUs it may use.
        storage: Root of the checkpoints; every machine must see it at this path.
        cache: Folder of trainings that studies share; likewise.
        elapsed_s: How much of the time budget is gone.
    """
    order = _Order(spec=spec, storage=storage, cache=cache, started_at=time.time() - elapsed_s)
    return PortableEvaluator(factory=f"{__name__}:open_evaluator", document=order.model_dump(mode="json"))


def open_evaluator(document: dict[str, Any]) -> Evaluator:
    """The evaluator that `portable_evaluator` described, in this process."""
    order = _Order.model_validate(document)
    spec = order.spec
    deadline = Deadline(started=order.started_at, time_budget_s=spec.time_budget_s, clock=time.time)
    return StudyEvaluator(
        spec,
        context=open_context(spec),
        folder=CheckpointFolder(order.storage, spec.name),
        cache=TrainingCache(order.cache),
        deadline=deadline,
        progress=Silent(),
    )
