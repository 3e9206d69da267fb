"""Write the best schedule of a search without training as a model that is ready to use."""

from __future__ import annotations

from pathlib import Path

from sparsesearch.analysis.view import StudyView

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
    spec, best = view.spec, view.best
    has_dense_weights = best is not None and not best.fidelity.is_training and not spec.fidelity.trains_supernet
    if spec.resolved is None or best is None or not has_dense_weights:
        return False

    # Imported here because torch and timm take seconds to load, and most studies are trained.
    from sparsesearch.app.trial_model import trial_model
    from sparsesearch.artifacts.checkpoint import save

    found = trial_model(view, best, storage=storage)
    if found is None:
        return False
    model, card = found
    save(model, path, card=card)
    return True
