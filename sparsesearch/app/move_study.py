"""Change where the data, the device or the checkpoints of a stored study are."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from sparsesearch.data.inputs import open_task
from sparsesearch.data.source import absolute_source
from sparsesearch.errors import CheckpointError, DataError, SpecError, one_line
from sparsesearch.evaluate.throughput import open_device
from sparsesearch.files.user_path import user_path
from sparsesearch.latency.device import machine_here
from sparsesearch.study.progress import Progress
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import TrialState
from sparsesearch.training.checkpoints import CheckpointFolder

_NEEDED = (TrialState.REFERENCE, TrialState.COMPLETE)


def move_study(
    writer: StudyWriter,
    *,
    data: str | None = None,
    device: str | None = None,
    storage: str | None = None,
    progress: Progress,
) -> None:
    """Store the new place of what an open study uses; nothing is stored unless all of it is as it was.

    Args:
        writer: The open study.
        data: Where the same data is now; its fingerprint must be that of the study.
        device: The device to go on on. Another kind of device is allowed, and said.
        storage: Folder where its checkpoints are now; their hashes must be the recorded ones.
        progress: Receives a line if the results of the study are no longer those of one machine.

    Raises:
        DataError: The data cannot be read, or is other data.
        CheckpointError: A checkpoint is not in the folder, or is not what was recorded.
        SpecError: A value is invalid, or the device is not available.
        StaleAttemptError: The lease is lost.
    """
    spec = writer.spec
    changes: dict[str, object] = {}
    if data is not None:
        changes["data"] = {**spec.data.model_dump(), "source": absolute_source(data)}
    if device is not None:
        changes["device"] = device
    if storage is not None:
        changes["storage"] = str(user_path(storage))
    if not changes:
        return
    try:
        moved = StudySpec.model_validate({**spec.model_dump(), **changes})
    except ValidationError as error:
        raise SpecError(f"study {spec.name!r} cannot be moved: {one_line(error)}") from error
    if data is not None:
        _check_data(moved)
    if device is not None:
        _check_device(moved, progress=progress)
    if moved.storage is not None and storage is not None:
        _check_storage(writer, Path(moved.storage))
    writer.resolve(moved)


def _check_data(spec: StudySpec) -> None:
    """Check that the data is that of a resolved study."""
    task = open_task(spec.data, backbone=spec.backbone)
    if spec.resolved is not None and task.fingerprint != spec.resolved.data_fingerprint:
        raise DataError(
            f"{spec.data.source} is not the data of study {spec.name!r}: its content differs; give the data that the "
            "study began with, or start a new study"
        )


def _check_device(spec: StudySpec, *, progress: Progress) -> None:
    """Check that the device is available, and say what another one changes."""
    here = machine_here(open_device(spec.device))
    before = None if spec.resolved is None else spec.resolved.machine
    if before is None or before.device == here.device:
        return
    line = f"study {spec.name} began on {before.device} and goes on on {here.device}: trainings differ in the last bits"
    if spec.resolved is not None and spec.resolved.latency is not None:
        line += f"; latencies are still those of {spec.resolved.latency.conditions.describe()}"
    progress.line(line)


def _check_storage(writer: StudyWriter, root: Path) -> None:
    """Check that the checkpoints that the study needs are in a folder."""
    folder = CheckpointFolder(root, writer.spec.name, writer.uid)
    for trial in writer.trials():
        if trial.checkpoint is not None and (trial.state in _NEEDED or not trial.state.is_final):
            problem = folder.verify(trial.checkpoint)
            if problem is not None:
                raise CheckpointError(
                    f"{root} is not the storage of study {writer.spec.name!r}: {problem}; copy {folder.folder.name} "
                    "into it, or leave --storage out"
                )
