"""The checkpoints of the trials of a study: written after each epoch, verified when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from torch import Tensor

from sparsesearch.errors import CheckpointError, InfrastructureError
from sparsesearch.study.events import Checkpointed, Event
from sparsesearch.study.progress import Progress
from sparsesearch.study.trial import CheckpointRef, Fidelity, Trial
from sparsesearch.training.checkpoints import CheckpointFolder, epoch_name
from sparsesearch.training.step_files import StepFiles

WHOLE = "whole"
"""Key of a checkpoint's document: whether neither this training nor the dense one before it was stopped early."""

Checkpoint = tuple[dict[str, Tensor], dict[str, object]]


def prefix_of(trial: Trial) -> str:
    """The start of the names of a trial's files."""
    return f"trial-{trial.number:05d}"


class TrialCheckpoints:
    """Writes and reads the checkpoints of one study.

    Args:
        folder: The study's folder.
        study: Name of the study, for messages.
        progress: Receives a line for each checkpoint that cannot be used.

    Attributes:
        builds_on: The stored references of the trainings that others build on; without one, a file is found by its name
            and verified by the hash in it.
    """

    def __init__(self, folder: CheckpointFolder, *, study: str, progress: Progress) -> None:
        self._folder = folder
        self._study = study
        self._progress = progress
        self.builds_on: Mapping[Fidelity, CheckpointRef] = {}

    def replace(
        self, trial: Trial, tensors: Mapping[str, Tensor], *, step: int, name: str, whole: bool
    ) -> Iterator[Event]:
        """Write a checkpoint, and delete the older ones once it is recorded."""
        document = {"kind": trial.fidelity.value, "key": trial.key, "seed": trial.seed, "step": step, WHOLE: whole}
        ref = self._folder.save(name, tensors, step=step, metadata=document)
        yield Checkpointed(trial=trial.number, attempt=trial.attempt, checkpoint=ref)
        self._remove_others(trial, ref)
        if ref.step > 1 or not _is_of_epoch(trial, ref):  # else the one before it is within the first epoch
            self.between_epochs(trial).clear()

    def latest(self, trial: Trial, *, label: str) -> Checkpoint | None:
        """The checkpoint from which a training goes on: the last one, or, if it is damaged, the one before it.

        Args:
            trial: The training.
            label: What it is, for messages.

        Returns:
            Tensors and document; None if the training starts from the beginning.

        Raises:
            InfrastructureError: The disk failed, or has gone away, and there is no other checkpoint.
        """
        ref = trial.checkpoint
        if ref is None:
            return None
        try:
            found = self._folder.load(ref)
        except (CheckpointError, InfrastructureError) as error:
            earlier = self._folder.latest(prefix_of(trial), before=ref.step)
            if earlier is not None and (earlier[1].get("key"), earlier[1].get("seed")) != (trial.key, trial.seed):
                earlier = None
            if earlier is None and isinstance(error, InfrastructureError):
                raise
            if earlier is not None:
                done = f"going on after epoch {earlier[1]['step']} of"
            else:
                done = "going on within the first epoch of" if self.between_epochs(trial).newest() else "restarting"
            self._progress.line(f"{error}; {done} {label}")
            return earlier
        self._remove_others(trial, ref)
        return found

    def between_epochs(self, trial: Trial) -> StepFiles:
        """The checkpoints of a training that are written within its epochs; they are not recorded in the store."""
        identity = {"kind": trial.fidelity.value, "key": trial.key, "seed": trial.seed}
        return StepFiles(
            self._folder.folder / "within-epochs" / prefix_of(trial),
            identity=identity,
            check=self._folder.check_there,
            report=self._progress.line,
        )

    def start(self, fidelity: Fidelity) -> Checkpoint:
        """Weights and document of a training that others build on, verified.

        Raises:
            CheckpointError: The file is damaged or missing.
        """
        ref = self.builds_on.get(fidelity)
        try:
            return self._folder.load(ref) if ref is not None else self._folder.read(fidelity.value)
        except CheckpointError as error:
            raise CheckpointError(
                f"{error}; the {fidelity.training_name} is repeated by: sparsesearch resume {self._study}"
            ) from error

    def document(self, fidelity: Fidelity) -> dict[str, object]:
        """The document of a training that has just ended."""
        return self._folder.read(fidelity.value)[1]

    def _remove_others(self, trial: Trial, ref: CheckpointRef) -> None:
        """Keep a checkpoint and, during a training, the one before it, which is used if the newer one is damaged."""
        name, prefix = PurePosixPath(ref.uri).stem, prefix_of(trial)
        earlier = [epoch_name(prefix, ref.step - 1)] if _is_of_epoch(trial, ref) else []
        self._folder.remove_others(prefix=prefix, keep=[name, *earlier])


def _is_of_epoch(trial: Trial, ref: CheckpointRef) -> bool:
    """Whether a checkpoint is one of a training under way, not its last one."""
    return PurePosixPath(ref.uri).stem == epoch_name(prefix_of(trial), ref.step)
