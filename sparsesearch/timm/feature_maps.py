"""`features_only=True` for sparse models: the feature maps of some blocks or stages, on their whole grids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models._features import FeatureGetterNet
from torch import nn

from sparsesearch.schedule.geometry import BackboneGeometry

_LAST_BLOCKS = 3


def feature_maps(
    model: nn.Module,
    geometry: BackboneGeometry,
    *,
    out_indices: int | Sequence[int] | None = None,
    output_fmt: str = "NCHW",
    norm: bool = False,
    feature_cls: str = "getter",
) -> nn.Module:
    """Wrap a sparse model as timm does for `features_only=True`; layers after the last output are removed.

    Args:
        model: The sparse model.
        geometry: Its geometry.
        out_indices: Blocks of a ViT, or stages; a number stands for the last ones. None for timm's default: the last
            three blocks, or all stages.
        output_fmt: Form of the maps: `NCHW`, or `NLC` for a ViT.
        norm: Whether to apply the last norm of the model to each of them.
        feature_cls: As in timm, whose other ways of taking features do not run the steps of a schedule; ignored.

    Raises:
        ValueError: An index is out of range.
    """
    if out_indices is None:
        out_indices = _LAST_BLOCKS if len(geometry.stages) == 1 else len(geometry.stages)
    indices: Any = out_indices if isinstance(out_indices, int) else list(out_indices)
    return FeatureGetterNet(model, out_indices=indices, output_fmt=output_fmt, norm=norm)
