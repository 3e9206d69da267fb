"""Hypothesis strategies for the values that searches are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from sparsesearch.errors import SpaceError
from sparsesearch.schedule import Phase, Schedule, Step
from sparsesearch.schedule.geometry import BackboneGeometry, Mixer, StageGeometry
from sparsesearch.schedule.methods import (
    ClassAttentionScorer,
    DynamicVitScorer,
    FastSlow,
    Fuse,
    Merge,
    NormScorer,
    Prune,
    RandomScorer,
    Reducer,
    Scorer,
    SpotScorer,
)
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.sampling import draw_shape, mutate_shape
from sparsesearch.space.shape import Shape

SCORERS: list[Scorer] = [DynamicVitScorer(), NormScorer(), RandomScorer(), RandomScorer(seed=1)]


@st.composite
def geometries(draw: st.DrawFn, *, min_grid: int = 1, min_depth: int = 1) -> BackboneGeometry:
    """Small and large isotropic backbones, odd widths and grids included."""
    dim = draw(st.integers(4, 1024))
    stage = StageGeometry(
        depth=draw(st.integers(min_depth, 14)),
        dim=dim,
        attn_dim=draw(st.sampled_from([dim, max(1, dim // 2), 2 * dim])),
        num_heads=1,
        mlp_dim=draw(st.integers(1, 4 * dim)),
        grid=(draw(st.integers(min_grid, 24)), draw(st.integers(min_grid, 24))),
        num_prefix_tokens=draw(st.integers(0, 5)),
    )
    return BackboneGeometry(
        name="drawn",
        image_size=(224, 224),
        stages=(stage,),
        stem_macs=draw(st.integers(0, 10**9)),
        head_macs=draw(st.integers(0, 10**7)),
        params=draw(st.integers(0, 10**9)),
    )


@st.composite
def schedules(
    draw: st.DrawFn,
    *,
    geometry: BackboneGeometry,
    max_steps: int = 5,
    phases: tuple[Phase, ...] = ("before_block", "before_ffn"),
    scorers: tuple[Scorer, ...] = tuple(SCORERS),
) -> Schedule:
    """Valid schedules of a backbone, idle steps and several steps at one location included."""
    num = draw(st.integers(0, max_steps))
    depth = geometry.stages[0].depth
    ratios = sorted(draw(st.lists(st.floats(0.001, 1.0), min_size=num, max_size=num)), reverse=True)
    places = sorted(
        draw(
            st.lists(st.tuples(st.integers(0, depth - 1), st.sampled_from(sorted(phases))), min_size=num, max_size=num)
        )
    )
    return Schedule(
        steps=tuple(
            Step(block=block, phase=phase, keep_ratio=ratio, scorer=draw(st.sampled_from(scorers)))
            for (block, phase), ratio in zip(places, ratios, strict=True)
        )
    )


@st.composite
def spaces(draw: st.DrawFn, *, geometry: BackboneGeometry) -> ResolvedSpace:
    """Spaces that fit a backbone of at least two blocks."""
    depth = geometry.stages[0].depth
    blocks = draw(st.one_of(st.just([]), st.lists(st.integers(0, depth - 1), min_size=1, unique=True)))
    most = len(blocks) or depth - 1
    least = draw(st.integers(1, min(3, most)))
    return SearchSpace(
        blocks=tuple(blocks),
        min_predictors=least,
        max_predictors=draw(st.integers(least, 5)),
        min_keep_ratio=draw(st.floats(0.01, 0.6)),
        scorers=tuple(draw(st.lists(st.sampled_from(SCORERS), min_size=1, max_size=3, unique=True))),
    ).resolve(geometry)


@st.composite
def shapes(draw: st.DrawFn, *, space: ResolvedSpace) -> Shape:
    """Shapes of a space, with weights far apart too."""
    num = draw(st.integers(space.min_predictors, space.max_predictors))
    blocks = draw(
        st.lists(st.sampled_from([block for _, block in space.locations]), min_size=num, max_size=num, unique=True)
    )
    weights = draw(st.lists(st.floats(1e-3, 1e3), min_size=num, max_size=num))
    return Shape.at(sorted(blocks), weights, method=draw(st.sampled_from(space.methods)))


REDUCERS: list[Reducer] = [Prune(), Fuse(), Merge(), Merge(metric="tokens")]
READERS: list[Scorer] = [
    DynamicVitScorer(),
    SpotScorer(),
    SpotScorer(layers=2, heads="mean"),
    SpotScorer(layers="all"),
    ClassAttentionScorer(),
    NormScorer(),
]
PATHS: list[Reducer] = [FastSlow(), FastSlow(fast_path="identity"), FastSlow(fast_path="bottleneck")]


@st.composite
def hierarchies(draw: st.DrawFn, *, max_depth: int = 6) -> BackboneGeometry:
    """Backbones of convolutions or windows with one to four stages."""
    mixer: Mixer = draw(st.sampled_from(["convolution", "window"]))
    stages = []
    for number in range(draw(st.integers(1, 4))):
        dim = draw(st.integers(4, 256))
        stages.append(
            StageGeometry(
                depth=draw(st.integers(1, max_depth)),
                dim=dim,
                attn_dim=0,
                num_heads=0,
                mlp_dim=draw(st.sampled_from([dim, 4 * dim])),
                grid=(draw(st.integers(3, 14)), draw(st.integers(3, 14))),
                num_prefix_tokens=0,
                has_class_token=False,
                mixer=mixer,
                mixer_macs=draw(st.integers(0, 10**7)),
                entry_macs=draw(st.integers(0, 10**6)) if number else 0,
            )
        )
    return BackboneGeometry(
        name="drawn",
        image_size=(224, 224),
        stages=tuple(stages),
        stem_macs=draw(st.integers(0, 10**8)),
        head_macs=draw(st.integers(0, 10**6)),
        head_token_macs=draw(st.sampled_from([0, 1000])),
        params=0,
    )


@st.composite
def isotropics(draw: st.DrawFn) -> BackboneGeometry:
    """Isotropic backbones with and without class token and head over tokens, at least nine tokens."""
    geometry = draw(geometries(min_grid=3, min_depth=2))
    has_class_token = draw(st.booleans())
    stage = geometry.stages[0].model_copy(
        update={
            "has_class_token": has_class_token,
            "num_prefix_tokens": max(int(has_class_token), geometry.stages[0].num_prefix_tokens),
        }
    )
    return geometry.model_copy(update={"stages": (stage,), "head_token_macs": draw(st.sampled_from([0, 1000]))})


def families() -> st.SearchStrategy[BackboneGeometry]:
    """Backbones of every family."""
    return st.one_of(isotropics(), hierarchies())


@st.composite
def full_spaces(draw: st.DrawFn, *, geometry: BackboneGeometry, max_locations: int = 6) -> ResolvedSpace:
    """Spaces of any family with any methods, small enough to have a schedule."""
    is_isotropic = geometry.stages[0].mixer == "attention"
    least = draw(st.integers(0, 2))
    document: dict[str, Any] = {
        "min_predictors": least,
        "max_predictors": draw(st.integers(max(1, least), 4)),
        "min_keep_ratio": draw(st.floats(0.01, 0.2)),
        "max_keep_ratio": draw(st.one_of(st.just(1.0), st.floats(0.8, 1.0))),
        "methods_per": draw(st.sampled_from(["schedule", "location"])),
        "merge_after_prune": draw(st.booleans()),
        "monotone": draw(st.booleans()),
        "reducers": draw(st.lists(st.sampled_from(REDUCERS if is_isotropic else PATHS), min_size=1, unique=True)),
        "scorers": draw(st.lists(st.sampled_from(READERS), min_size=1, unique=True)),
        "phases": draw(st.sampled_from([["before_block"], ["before_ffn"], ["before_block", "before_ffn"]])),
    }
    entries = []
    chosen = [0] if is_isotropic else range(len(geometry.stages))
    for stage in draw(st.lists(st.sampled_from(chosen), min_size=1, unique=True)):
        depth = geometry.stages[stage].depth
        blocks = draw(st.lists(st.integers(0, depth - 1), min_size=1, max_size=max_locations, unique=True))
        latest = draw(st.one_of(st.none(), st.integers(min(blocks), depth)))
        entries.append({"stage": stage, "blocks": blocks, "latest": latest})
    document["stages"] = entries
    try:
        return SearchSpace.model_validate(document).resolve(geometry)
    except SpaceError:
        reject()


@st.composite
def full_shapes(draw: st.DrawFn, *, space: ResolvedSpace) -> Shape:
    """Shapes of a space, drawn and changed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw_shape(space, rng=rng)
    for _ in range(draw(st.integers(0, 2))):
        shape = mutate_shape(shape, space, rng=rng)
    return shape
