"""Methods of the schedules of a profile, unless given by a search space."""

from __future__ import annotations

from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import (
    ClassAttentionScorer,
    DynamicVitScorer,
    FastSlow,
    Fuse,
    KeyNormScorer,
    Merge,
    NormScorer,
    Prune,
    RandomScorer,
    SpotScorer,
)
from sparsesearch.space.shape import Method

_DEFAULT_TOKENS = (
    Method(reducer=Prune(), scorer=DynamicVitScorer()),
    Method(reducer=Prune(), scorer=SpotScorer()),
    Method(reducer=Prune(), scorer=ClassAttentionScorer(), phase="before_ffn"),
    Method(reducer=Fuse(), scorer=ClassAttentionScorer(), phase="before_ffn"),
    Method(reducer=Merge(), phase="before_ffn"),
)
_DEFAULT_GRID = (Method(reducer=FastSlow(), scorer=DynamicVitScorer()),)
_SCORERS = (
    DynamicVitScorer(), SpotScorer(), ClassAttentionScorer(), KeyNormScorer(), NormScorer(), RandomScorer(),
)  # fmt: skip


def default_methods(geometry: BackboneGeometry) -> tuple[Method, ...]:
    """The methods of the papers: DynamicViT, SPOT, EViT, ToMe; fast and slow paths on a grid."""
    found = [*(_DEFAULT_TOKENS if _has_tokens(geometry) else ()), *(_DEFAULT_GRID if _has_grid(geometry) else ())]
    return tuple(one for one in found if _has_what_it_reads(one, geometry))


def all_methods(geometry: BackboneGeometry) -> tuple[Method, ...]:
    """Every reduction and every scorer; their latencies are additive, so that not all combinations are needed."""
    found = list(default_methods(geometry))
    if _has_tokens(geometry):
        found += [Method(reducer=Prune(), scorer=scorer) for scorer in _SCORERS]
        found += [Method(reducer=Fuse(), scorer=scorer, phase="before_ffn") for scorer in _SCORERS]
        found += [Method(reducer=Merge())]
    if _has_grid(geometry):
        found += [
            Method(reducer=FastSlow(fast_path=path), scorer=scorer)
            for path in ("linear", "identity", "bottleneck")
            for scorer in (DynamicVitScorer(), NormScorer(), RandomScorer())
        ]
    return tuple(one for one in dict.fromkeys(found) if _has_what_it_reads(one, geometry))


def _has_tokens(geometry: BackboneGeometry) -> bool:
    return any(stage.mixer == "attention" for stage in geometry.stages)


def _has_grid(geometry: BackboneGeometry) -> bool:
    return any(stage.mixer != "attention" for stage in geometry.stages)


def _has_what_it_reads(method: Method, geometry: BackboneGeometry) -> bool:
    return geometry.stages[-1].has_class_token or not isinstance(method.scorer, ClassAttentionScorer)
