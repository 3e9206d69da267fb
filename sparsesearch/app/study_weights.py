"""The weights of a recipe's study, where they are on this machine."""

from __future__ import annotations

from torch import Tensor

from sparsesearch.app.storage import storage_of
from sparsesearch.artifacts.recipe import Recipe
from sparsesearch.artifacts.trained import trained_tensors
from sparsesearch.errors import CheckpointError, StudyNotFoundError
from sparsesearch.settings import Settings
from sparsesearch.study.progress import Progress
from sparsesearch.study.protocols import StudyStore
from sparsesearch.training.checkpoints import CheckpointFolder


def study_weights(
    recipe: Recipe, store: StudyStore, settings: Settings, *, progress: Progress
) -> tuple[dict[str, Tensor], str] | None:
    """Return the weights that the recipe's trial was evaluated with and their description, None if not available.

    Args:
        recipe: Its provenance names the study and the trial.
        store: The study database.
        settings: Where checkpoints are.
        progress: Gets a warning if a checkpoint is damaged.
    """
    name, number = recipe.provenance.study, recipe.provenance.trial
    try:
        spec, trials = store.spec(name), store.trials(name)
        folder = CheckpointFolder(storage_of(spec, settings), name, store.uid(name))
    except StudyNotFoundError:
        return None
    trial = next((one for one in trials if one.number == number and one.key == recipe.provenance.schedule_key), None)
    if trial is None:
        return None
    try:
        tensors = trained_tensors(trial, trials, folder)
    except CheckpointError as error:
        progress.line(f"warning: {error}")
        return None
    return None if tensors is None else (dict(tensors), f"weights of trial {number} of study {name}")
