"""Published schedules that need no training, as functions of one rate: what a training-free search competes with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparsesearch.budget.baselines import HandcraftedBaseline, handcrafted_baselines
from sparsesearch.papers.schedules import paper_blocks
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import (
    ClassAttentionScorer,
    FastSlow,
    Fuse,
    KeyNormScorer,
    Merge,
    NormScorer,
    RandomScorer,
    Scorer,
)
from sparsesearch.space.shape import Method, Shape

_PRUNED_BY: tuple[tuple[str, Scorer], ...] = (
    ("class attention", ClassAttentionScorer()),
    ("key norm", KeyNormScorer()),
    ("token norm", NormScorer()),
    ("chance", RandomScorer()),
)


def untrained_baselines(geometry: BackboneGeometry) -> tuple[HandcraftedBaseline, ...]:
    """The hand-crafted baselines that are evaluated with the dense weights.

    Isotropic backbones: ToMe with a constant and with a decreasing number of merges in every block (arXiv:2210.09461,
    section 3 and appendix); EViT's fusing by class attention after the attention of the papers' blocks
    (arXiv:2202.07800, section 3); pruning before these blocks by each score that is not learned, chance included.
    Hierarchical ones: fast and slow paths at the paper's blocks, by the norm of tokens and by chance.

    Args:
        geometry: The backbone.
    """
    stage = geometry.stages[0]
    if stage.mixer != "attention":
        return tuple(
            HandcraftedBaseline(label=f"{family.label} by {name}", shape=family.shape, rule=family.rule)
            for name, scorer in _PRUNED_BY[2:]
            for family in handcrafted_baselines(
                geometry, method=Method(reducer=FastSlow(fast_path="identity"), scorer=scorer)
            )
        )
    has_class_token = stage.has_class_token
    every_block = Shape.at(list(range(stage.depth)), method=Method(reducer=Merge(), phase="before_ffn"))
    found = [
        HandcraftedBaseline(label="ToMe", shape=every_block, rule=_Merges(stage.depth, falls=False)),
        HandcraftedBaseline(label="ToMe, decreasing", shape=every_block, rule=_Merges(stage.depth, falls=True)),
    ]
    blocks = sorted({block for block in paper_blocks(geometry) if 0 <= block < stage.depth})
    named = ",".join(str(block) for block in blocks)
    if has_class_token:
        fused = Method(reducer=Fuse(), scorer=ClassAttentionScorer(), phase="before_ffn")
        found.append(HandcraftedBaseline(label=f"EViT at {named}", shape=Shape.at(blocks, method=fused)))
    for name, scorer in _PRUNED_BY:
        method = Method(scorer=scorer)
        able = [block for block in blocks if method.is_possible_at((0, block))]
        if able and (has_class_token or not isinstance(scorer, ClassAttentionScorer)):
            where = ",".join(str(block) for block in able)
            found.append(HandcraftedBaseline(label=f"pruned by {name} at {where}", shape=Shape.at(able, method=method)))
    return tuple(found)


@dataclass(frozen=True)
class _Merges:
    """Fractions of tokens left by every block (protocol `RatioRule`): a constant number of merges, or a falling one."""

    num: int
    falls: bool

    def __call__(self, scale: float, /) -> Sequence[float]:
        weights = [2.0 * (self.num - i) - 1.0 if self.falls else 1.0 for i in range(self.num)]
        total, merged, ratios = sum(weights), 0.0, []
        for weight in weights:
            merged += weight
            ratios.append(1.0 - (1.0 - scale) * merged / total)
        return ratios
