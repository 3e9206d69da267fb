"""Keys of a study's dense and supernet training in the training cache."""

from __future__ import annotations

from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import Fidelity
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.cache import dense_key, supernet_key


def reference_keys(spec: StudySpec, *, arithmetic: Arithmetic) -> dict[Fidelity, str]:
    """The keys of the trainings that all other trials of a resolved study build on.

    Raises:
        CheckpointError: The weights file cannot be read.
    """
    resolved = spec.resolved
    assert resolved is not None, "only resolved studies are run"
    dense = dense_key(
        backbone=spec.backbone,
        geometry=resolved.geometry,
        num_classes=resolved.num_classes,
        weights=spec.weights,
        data_fingerprint=resolved.data_fingerprint,
        training=spec.fidelity.dense,
        seed=spec.seed,
        arithmetic=arithmetic,
    )
    supernet = supernet_key(dense, space=resolved.space, training=spec.fidelity.supernet_training, seed=spec.seed)
    return {Fidelity.DENSE: dense, Fidelity.SUPERNET_TRAINING: supernet}
