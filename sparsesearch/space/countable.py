"""The methods of a space whose token counts can be learned by gradients, and the schedules that this starts from."""

from __future__ import annotations

from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import Fuse, Prune, is_learned
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.shape import Method


def countable_methods(space: ResolvedSpace, *, has_trained_scorers: bool) -> list[Method]:
    """The ways of ranking tokens, each with pruning (or its fast path); fusing drops the same tokens as pruning.

    Args:
        space: The search space.
        has_trained_scorers: Whether scorers that are learned have been trained; otherwise they are left out.
    """
    found = [
        Method(reducer=Prune(), scorer=method.scorer, phase=method.phase)
        if isinstance(method.reducer, Fuse)
        else method
        for method in space.methods
        if method.scorer is not None and (has_trained_scorers or not is_learned(method.scorer))
    ]
    return list(dict.fromkeys(found))


def everywhere(space: ResolvedSpace, geometry: BackboneGeometry, method: Method) -> Schedule | None:
    """The schedule with a method at each location where it is possible, each of which drops one token more.

    Args:
        space: The search space.
        geometry: The backbone.
        method: The method.

    Returns:
        The schedule; None if there are fewer tokens than locations, or no location.
    """
    steps: list[Step] = []
    dropped = dict.fromkeys(range(len(geometry.stages)), 0)
    for stage, block in space.locations:
        if not method.is_possible_at((stage, block)):
            continue
        dropped[stage] += 1
        left = geometry.stages[stage].num_tokens - dropped[stage]
        if left < 1:
            return None
        ratio = left / geometry.stages[stage].num_tokens
        steps.append(
            Step(
                stage=stage,
                block=block,
                phase=method.phase,
                keep_ratio=ratio,
                reducer=method.reducer,
                scorer=method.scorer,
            )
        )
    return Schedule(steps=tuple(steps)) if steps else None
