"""Open backbone, data, device and checkpoints of a prepared study, in any process."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sparsesearch.data.content import changed_data
from sparsesearch.data.inputs import open_task
from sparsesearch.errors import DataError
from sparsesearch.evaluate.deadline import Deadline
from sparsesearch.evaluate.evaluator import StudyEvaluator
from sparsesearch.evaluate.portable import PortableEvaluator
from sparsesearch.evaluate.stop_file import StopFile
from sparsesearch.evaluate.throughput import open_device
from sparsesearch.evaluate.work_files import WorkFiles
from sparsesearch.study.progress import Progress, Silent
from sparsesearch.study.protocols import Evaluator
from sparsesearch.study.spec import StudySpec
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.cache import TrainingCache
from sparsesearch.training.checkpoints import CheckpointFolder
from sparsesearch.training.kinds import TrainingContext
from sparsesearch.training.processes import Processes
from sparsesearch.value import Value


def device_here(spec: StudySpec) -> torch.device:
    """The device of a study in the process that leads it.

    On a Ray cluster, workers compute on devices of their own, and this machine may be without a GPU.

    Raises:
        SpecError: The device does not exist.
    """
    is_led_only = spec.dispatcher == "ray" and spec.resources.ray_address is not None
    return open_device("auto" if is_led_only and spec.device != "cpu" else spec.device)


def open_context(spec: StudySpec, *, device: str | None = None, data_state: str = "") -> TrainingContext:
    """Open backbone, data and device of a prepared study.

    Args:
        spec: The study.
        device: Device of this process; None for that of the process that leads the study.
        data_state: `Task.state` of the process that looked at the data's files; empty to look at them now.

    Raises:
        DataError: The data has changed since the study was prepared.
    """
    resolved = spec.resolved
    assert resolved is not None, "only prepared studies are stored"
    task = open_task(spec.data, backbone=spec.backbone, expected=resolved.data_fingerprint, state=data_state)
    if task.fingerprint != resolved.data_fingerprint:
        stored, found = resolved.data_fingerprint, task.fingerprint
        raise DataError(changed_data(spec.data.source, study=spec.name, stored=stored, found=found))
    arithmetic = Arithmetic.of(spec.precision, device=device_here(spec) if device is None else open_device(device))
    arithmetic = replace(arithmetic, compiles=spec.compile)
    return TrainingContext(spec.backbone, resolved.geometry, task, arithmetic, seed=spec.seed)


class _EvaluatorDocument(Value):
    """What a worker needs to open the evaluator of a study.

    Attributes:
        spec: The prepared study.
        device: `auto`, `cpu` or `cuda`, without an index: a worker only sees the GPUs that Ray has assigned to it.
        uid: Unique id of the study.
        storage: Root of the checkpoints.
        cache: Folder of trainings that studies share.
        started_at: Start of the time budget in seconds since the epoch, comparable between machines.
        run: Unique id of the run.
        data_state: What the files of the data were when the driver looked at them.
        folder_exists: Whether the study's folder was created before.
    """

    spec: StudySpec
    device: str
    uid: str
    storage: Path
    cache: Path
    started_at: float
    run: str
    data_state: str = ""
    folder_exists: bool = False


def portable_evaluator(
    spec: StudySpec,
    *,
    storage: Path,
    cache: Path,
    elapsed_s: float,
    uid: str = "",
    run: str = "",
    data_state: str = "",
    folder_exists: bool = False,
) -> PortableEvaluator:
    """The evaluator of a prepared study, to be opened by worker processes.

    Args:
        spec: The study.
        storage: Root of the checkpoints; must be accessible at this path on every machine.
        cache: Folder of trainings that studies share; must be accessible likewise.
        elapsed_s: Seconds of the time budget that are used up.
        uid: Unique id of the study.
        run: Unique id of the run, whose `StopFile` the processes look at.
        data_state: `Task.state` here, so that workers do not look at each file again.
        folder_exists: Whether the study's folder was created before; workers then never create it, since its disk has
            gone away if they miss it.
    """
    document = _EvaluatorDocument(
        spec=spec,
        device=spec.device.partition(":")[0],
        uid=uid,
        storage=storage,
        cache=cache,
        started_at=time.time() - elapsed_s,
        run=run,
        data_state=data_state,
        folder_exists=folder_exists,
    )
    return PortableEvaluator(
        factory=f"{__name__}:open_evaluator",
        document=document.model_dump(mode="json"),
        logs=str(CheckpointFolder(storage, spec.name, uid).log_folder),
        work=str(CheckpointFolder(storage, spec.name, uid).work_folder),
    )


def open_evaluator(document: dict[str, Any]) -> Evaluator:
    """Open the evaluator described by `portable_evaluator` in this process."""
    described = _EvaluatorDocument.model_validate(document)
    spec = described.spec
    deadline = Deadline(started=described.started_at, time_budget_s=spec.time_budget_s, clock=time.time)
    folder = CheckpointFolder(described.storage, spec.name, described.uid, exists=described.folder_exists)
    processes = Processes()
    progress: Progress = WorkFiles(folder.work_folder) if processes.is_first else Silent()
    return StudyEvaluator(
        spec,
        context=open_context(spec, device=described.device, data_state=described.data_state),
        folder=folder,
        cache=TrainingCache(described.cache, report=progress.line),
        deadline=deadline,
        progress=progress,
        stop=StopFile(folder.work_folder, run=described.run).token(),
        processes=processes,
    )
