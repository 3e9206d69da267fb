"""Where the checkpoints of a study and the trainings that studies share are."""

from __future__ import annotations

from pathlib import Path

from sparsesearch.settings import Settings
from sparsesearch.study.spec import StudySpec


def storage_of(spec: StudySpec, settings: Settings) -> Path:
    """Return the root folder of the checkpoints of a study."""
    return settings.storage if spec.storage is None else Path(spec.storage)


def cache_of(spec: StudySpec, settings: Settings) -> Path:
    """Return the folder of trainings that studies share: inside `spec.storage` if that is given."""
    return settings.cache if spec.storage is None else Path(spec.storage) / ".cache"
