"""Load the trained weights of a trial, if they are on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from sparsesearch.artifacts.model_reference import ModelReference
from sparsesearch.backbones.load_weights import load_weights_
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.schedule import Schedule
from sparsesearch.study.trial import Fidelity, Trial
from sparsesearch.training.checkpoints import CheckpointFolder


def trained_tensors(trial: Trial, trials: Sequence[Trial], folder: CheckpointFolder) -> dict[str, Tensor] | None:
    """Load the weights that a trial was evaluated with: its own, or the shared ones. None if they do not exist.

    Args:
        trial: A complete trial.
        trials: All trials of its study.
        folder: The study's checkpoints.

    Raises:
        CheckpointError: The file does not match its recorded hash.
    """
    source: Trial | None = trial
    if not trial.fidelity.is_training:
        of = {other.fidelity: other for other in trials if other.is_foundation}
        source = of.get(Fidelity.SUPERNET_TRAINING) or of.get(Fidelity.DENSE)
    ref = None if source is None else source.checkpoint
    if ref is None or not folder.holds(ref):
        return None
    return folder.load(ref)[0]


def model_of(
    reference: ModelReference, tensors: Mapping[str, Tensor], *, schedule: Schedule | None = None
) -> nn.Module:
    """Create the sparse model of a reference with trained weights, ignoring those that its schedule does not use.

    Raises:
        CheckpointError: A weight is missing.
    """
    model = reference.dense_model()
    sparsify_(model, reference.schedule if schedule is None else schedule)
    load_weights_(model, tensors, source="the checkpoint", allow_unused=True)
    return model.eval()
