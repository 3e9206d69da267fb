"""The backbones of papers' published tables."""

from __future__ import annotations

from sparsesearch.backbones.lookup import backbone_geometry
from sparsesearch.papers.results import PaperFamily
from sparsesearch.schedule.geometry import BackboneGeometry


def family_geometry(family: PaperFamily) -> BackboneGeometry:
    """Geometry of the backbone of a family, at 224 pixels with 1000 classes."""
    if family.name != "deit_256":
        return backbone_geometry(family.name)
    from timm.models.vision_transformer import VisionTransformer

    from sparsesearch.backbones.meta import without_weights
    from sparsesearch.backbones.registry import geometry

    with without_weights():  # only in the papers' repository: timm has no model of this width
        return geometry(VisionTransformer(embed_dim=256, depth=12, num_heads=4), family.name)
