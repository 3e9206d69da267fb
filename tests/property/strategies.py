"""Hypothesis strategies for the values that searches are made of."""

from __future__ import annotations

from hypothesis import strategies as st

from sparsesearch.geometry import BackboneGeometry, StageGeometry
from sparsesearch.methods import DynamicVitScorer, NormScorer, RandomScorer, Scorer
from sparsesearch.schedule import Phase, Schedule, Step
from sparsesearch.space.definition import SearchSpace
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
def spaces(draw: st.DrawFn, *, geometry: BackboneGeometry) -> SearchSpace:
    """Spaces that fit a backbone of at least two blocks, spelled out for it."""
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
    ).for_geometry(geometry)


@st.composite
def shapes(draw: st.DrawFn, *, space: SearchSpace) -> Shape:
    """Shapes of a space, with weights far apart too."""
    num = draw(st.integers(space.min_predictors, space.max_predictors))
    blocks = draw(st.lists(st.sampled_from(space.blocks), min_size=num, max_size=num, unique=True))
    weights = draw(st.lists(st.floats(1e-3, 1e3), min_size=num, max_size=num))
    return Shape.at(sorted(blocks), weights, method=draw(st.sampled_from(space.methods)))
