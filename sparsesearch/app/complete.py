"""Complete the document that a user gave to a full study document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparsesearch.app.validate import filled_in, validate
from sparsesearch.backbones.lookup import resolve_name
from sparsesearch.catalog.names import which_is_meant
from sparsesearch.errors import CheckpointError
from sparsesearch.study.progress import Progress
from sparsesearch.study.spec import StudySpec, notes_on_renamed
from sparsesearch.training.published_weights import resolve_weights


def complete(document: Mapping[str, Any], *, progress: Progress) -> StudySpec:
    """Validate a document, fill in its missing keys, and check that published weights are available.

    Args:
        document: As in `validate`.
        progress: Receives a message if the weights differ from the requested ones, two backbones have the name that was
            given, or a key was renamed.

    Raises:
        CheckpointError: The weights that were asked for cannot be had. The bundled demo trains from scratch instead.
        UserInputError: As in `validate`.
    """
    spec = validate(document)
    backbone, is_demo = resolve_name(spec.backbone), spec.data.is_demo
    if document.get("weights") == "pretrained" and spec.weights == "scratch" and not is_demo:
        raise CheckpointError(
            f"{backbone} has no published weights; give a file with --weights PATH, or train from random weights with "
            "--weights scratch"
        )
    weights, line = resolve_weights(spec.weights, backbone=backbone, or_scratch=is_demo)
    if line is not None:
        progress.line(line)
    meant = which_is_meant(spec.backbone)
    if meant is not None:
        progress.line(meant)
    for note in notes_on_renamed(document):
        progress.line(note)
    return spec if weights == spec.weights else filled_in({**document, "weights": weights})
