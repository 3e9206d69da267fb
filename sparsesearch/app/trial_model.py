"""The trained model of a trial, with the card of its file."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from sparsesearch.analysis.view import StudyView
from sparsesearch.artifacts.checkpoint import ImagePreprocessing, ModelCard
from sparsesearch.artifacts.model_reference import ModelReference
from sparsesearch.artifacts.trained import model_of, trained_tensors
from sparsesearch.data.inputs import open_task, preprocessing_for
from sparsesearch.errors import DataError
from sparsesearch.schedule.image_size import as_image_size
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import Fidelity, Trial
from sparsesearch.training.checkpoints import CheckpointFolder


def trial_model(view: StudyView, trial: Trial, *, storage: Path) -> tuple[nn.Module, ModelCard] | None:
    """Load the model that a trial was evaluated with; None if its weights are not on this machine.

    Args:
        view: A prepared study.
        trial: One of its trials, which is complete.
        storage: Root folder of the study's checkpoints.

    Raises:
        CheckpointError: The weights do not match their recorded hash.
    """
    spec, resolved = view.spec, view.spec.resolved
    assert resolved is not None
    tensors = trained_tensors(trial, view.trials, CheckpointFolder(storage, spec.name, view.uid))
    if tensors is None:
        return None
    size = as_image_size(resolved.geometry.image_size)
    files = preprocessing_for(spec.backbone, spec.data, in_chans=resolved.in_chans, image_size=size)
    reference = ModelReference(spec.backbone, trial.schedule, resolved.num_classes, resolved.in_chans, size)
    dense = next((one for one in view.trials if one.fidelity is Fidelity.DENSE), None)
    card = ModelCard(
        backbone=spec.backbone,
        schedule=trial.schedule,
        num_classes=resolved.num_classes,
        in_chans=resolved.in_chans,
        image_size=size,
        class_names=_class_names(spec),
        preprocessing=ImagePreprocessing.of(files),
        metrics=dict(trial.metrics),
        macs=trial.cost.macs,
        dense_macs=None if dense is None else dense.cost.macs,
        data=spec.data,
    )
    return model_of(reference, tensors), card


def _class_names(spec: StudySpec) -> tuple[str, ...]:
    """Names of the classes; empty if the data are not on this machine any more."""
    try:
        return open_task(spec.data, backbone=spec.backbone).class_names
    except DataError:
        return ()
