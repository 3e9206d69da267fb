"""Write the best schedule of a study as a model."""

from __future__ import annotations

from pathlib import Path

from sparsesearch.analysis.view import StudyView

MODEL = "best.safetensors"


def write_best_model(view: StudyView, path: Path, *, storage: Path) -> bool:
    """Write the best schedule with the weights that it was judged with, for `sparsesearch.load`.

    Args:
        view: A study.
        path: Output file.
        storage: Root folder of the study's checkpoints.

    Returns:
        Whether it was written. It is not if there is no such schedule yet, or its weights are not on this machine.

    Raises:
        CheckpointError: The weights do not match their recorded hash.
    """
    best = view.best
    if view.spec.resolved is None or best is None:
        return False

    # Imported here because torch and timm take seconds to load, and most callers have no model to write.
    from sparsesearch.app.trial_model import trial_model
    from sparsesearch.artifacts.checkpoint import save

    found = trial_model(view, best, storage=storage)
    if found is None:
        return False
    model, card = found
    save(model, path, card=card)
    return True


def needs_no_training(view: StudyView) -> bool:
    """Whether the best schedule was judged with the dense weights, so that its model is what a search was to find."""
    best = view.best
    return best is not None and not best.fidelity.is_training and not view.spec.fidelity.trains_supernet
