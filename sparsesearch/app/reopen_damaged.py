"""Verify the weights of a study, and repeat the trainings whose weights are lost."""

from __future__ import annotations

from sparsesearch.study.progress import Progress
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.trial import TrialState
from sparsesearch.training.checkpoints import CheckpointFolder


def reopen_damaged(writer: StudyWriter, folder: CheckpointFolder, *, progress: Progress) -> None:
    """Verify the weights of an open study; a training whose file is not what was stored runs again.

    Its recorded measurements are kept, and so are the results of the other trials. Weights in the training cache are
    taken over before anything is trained. Files of fine-tunings may be missing: nothing builds on them.

    Args:
        writer: The open study.
        folder: Its checkpoints.
        progress: Receives a line for each damaged or missing file.

    Raises:
        InfrastructureError: The disk of the checkpoints failed, or is not there.
    """
    folder.check_recorded([trial.checkpoint for trial in writer.trials() if trial.checkpoint is not None])
    for trial in writer.trials({TrialState.REFERENCE, TrialState.COMPLETE}):
        if trial.checkpoint is None or not (trial.is_foundation or folder.holds(trial.checkpoint)):
            continue
        problem = folder.verify(trial.checkpoint, sets_aside=True)
        if problem is not None:
            name = trial.fidelity.training_name if trial.is_foundation else f"fine-tuning of trial {trial.number}"
            progress.line(f"{problem}; the {name} is repeated")
            writer.reopen(trial.number, reason=problem)
