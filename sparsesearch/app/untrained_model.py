"""Write the best schedule of a search without training as a model that is ready to use."""

from __future__ import annotations

from pathlib import Path

from sparsesearch.analysis.view import StudyView
from sparsesearch.errors import DataError
from sparsesearch.study.spec import StudySpec

MODEL = "best.safetensors"


def write_untrained_model(view: StudyView, path: Path, *, storage: Path) -> bool:
    """Write the dense weights with the best schedule, for `sparsesearch.load`, if that is how it was evaluated.

    Args:
        view: A study.
        path: Output file.
        storage: Root folder of the study's checkpoints.

    Returns:
        Whether it was written. It is not if the best schedule was trained or has weights of its own, or if the dense
        weights are not on this machine.

    Raises:
        CheckpointError: The dense weights do not match their recorded hash.
    """
    spec, resolved, best = view.spec, view.spec.resolved, view.best
    has_dense_weights = best is not None and not best.fidelity.is_training and not spec.fidelity.trains_supernet
    if resolved is None or best is None or not has_dense_weights:
        return False

    # Imported here because torch and timm take seconds to load, and most studies are trained.
    from sparsesearch.artifacts.checkpoint import ImagePreprocessing, ModelCard, save
    from sparsesearch.artifacts.model_reference import ModelReference
    from sparsesearch.artifacts.trained import model_of, trained_tensors
    from sparsesearch.data.inputs import preprocessing_for
    from sparsesearch.schedule.image_size import as_image_size
    from sparsesearch.training.checkpoints import CheckpointFolder

    tensors = trained_tensors(best, view.trials, CheckpointFolder(storage, spec.name, view.uid))
    if tensors is None:
        return False
    size = as_image_size(resolved.geometry.image_size)
    files = preprocessing_for(spec.backbone, spec.data, in_chans=resolved.in_chans, image_size=size)
    reference = ModelReference(spec.backbone, best.schedule, resolved.num_classes, resolved.in_chans, size)
    card = ModelCard(
        backbone=spec.backbone,
        schedule=best.schedule,
        num_classes=resolved.num_classes,
        in_chans=resolved.in_chans,
        image_size=size,
        class_names=_class_names(spec),
        preprocessing=ImagePreprocessing.of(files),
        metrics=dict(best.metrics),
        macs=best.cost.macs,
    )
    save(model_of(reference, tensors), path, card=card)
    return True


def _class_names(spec: StudySpec) -> tuple[str, ...]:
    """Names of the classes; empty if the data are not on this machine any more."""
    from sparsesearch.data.inputs import open_task  # loads torch

    try:
        return open_task(spec.data, backbone=spec.backbone).class_names
    except DataError:
        return ()
