"""What is to be deployed: a saved model, or a trial of a study whose weights are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from sparsesearch.analysis.view import StudyView
from sparsesearch.app.storage import storage_of
from sparsesearch.app.trial_model import trial_model
from sparsesearch.artifacts.checkpoint import ModelCard, load, read_card
from sparsesearch.artifacts.from_study import best_trial
from sparsesearch.errors import SpecError
from sparsesearch.settings import Settings
from sparsesearch.store.sql import open_store
from sparsesearch.study.trial import Trial, TrialState

SAVED = ".safetensors"


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained model.

    Attributes:
        what: What it is, for messages.
        model: The model, in eval mode.
        card: Its metadata.
    """

    what: str
    model: nn.Module
    card: ModelCard


def find_subject(what: str, *, settings: Settings, trial: int | None = None) -> Subject:
    """Find a trained model: an argument that is an existing file is a file, anything else a study.

    Args:
        what: A file of `retrain` or `import-checkpoint`, or the name of a study.
        settings: Where studies and their checkpoints are.
        trial: Number of a trial of the study; None for its best one.

    Raises:
        SpecError: The file has no weights, there is no such trial, or its weights are not kept.
        StudyNotFoundError: There is neither such a file nor such a study.
    """
    path = Path(what)
    if path.is_file():
        if trial is not None:
            raise SpecError(f"{what} is a file, which has no trials; leave out --trial, or give the name of a study")
        if path.suffix != SAVED:
            raise SpecError(
                f"{what} has no weights, as recipes have none; train it first: sparsesearch retrain {what} -o "
                "model.safetensors"
            )
        return Subject(what, load(path), read_card(path))
    if path.suffix in (SAVED, ".yaml", ".yml", ".json") or len(path.parts) > 1:
        raise SpecError(f"there is no file {what}; give a file of sparsesearch retrain, or the name of a study")
    return _of_study(what, settings=settings, number=trial)


def _of_study(study: str, *, settings: Settings, number: int | None) -> Subject:
    store = open_store(settings.database_url)
    view = StudyView.of(store, study)
    chosen = best_trial(view) if number is None else _trial(view.trials, number, study)
    found = trial_model(view, chosen, storage=storage_of(view.spec, settings))
    if found is None:
        raise SpecError(
            f"the weights of trial {chosen.number} of study {study} are not on this machine; export a recipe and train "
            f"it: sparsesearch export {study} -o best.yaml, then sparsesearch retrain best.yaml"
        )
    return Subject(f"trial {chosen.number} of study {study}", *found)


def _trial(trials: tuple[Trial, ...], number: int, study: str) -> Trial:
    found = next((one for one in trials if one.number == number), None)
    if found is None:
        raise SpecError(f"study {study} has no trial {number}; see: sparsesearch trials {study}")
    if found.state not in (TrialState.COMPLETE, TrialState.REFERENCE):
        raise SpecError(f"trial {number} of study {study} is {found.state.value}; choose one that is complete")
    return found
