"""The space that a study searches: that of its document, as its strategy can search it on its backbone."""

from __future__ import annotations

from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.supernet_schedules import with_fixed_windows
from sparsesearch.space.untrained import without_training
from sparsesearch.study.spec import StudySpec


def space_for(spec: StudySpec, geometry: BackboneGeometry) -> ResolvedSpace:
    """Resolve the space for a backbone, restricted to what the strategy can search.

    Raises:
        SpaceError: The space does not fit the backbone, or leaves nothing that the strategy can search.
    """
    space = spec.space.resolve(geometry)
    if spec.fidelity.strategy == "training-free":
        return without_training(space, geometry)
    if spec.fidelity.strategy == "supernet":
        return with_fixed_windows(space, geometry)
    return space
