"""Map the parameter names of published code to those of timm and of this package.

Supported are the names of DynamicViT's repository, dense and sparse, for DeiT, LV-ViT, ConvNeXt and Swin; its dense
names are those of the official repositories of ConvNeXt and Swin and of TokenLabeling. Names of timm are not changed.

Source: DynamicViT (arXiv:2106.02034) and Dynamic Spatial Sparsification (arXiv:2207.01580), their published code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from torch import Tensor

from sparsesearch.errors import CheckpointError

Layout = Literal["timm", "convnext", "swin"]

_SPARSE_STAGE: dict[Layout, int] = {"timm": 0, "convnext": 2, "swin": 2}
_PREDICTOR = re.compile(r"^(?:layers\.2\.)?score_predictor\.(\d+)\.(.+)$")
_OUR_PREDICTOR = re.compile(r"^sparsity\.predictors\.(\w+)\.")
_REBUILT = (".attn.relative_position_index", ".attn_mask")
"""Buffers that timm recomputes and does not store."""

# The first pattern that matches a name rewrites it; the others are skipped.
_RULES: dict[Layout, tuple[tuple[str, str], ...]] = {
    "timm": (),
    "convnext": (
        (r"^downsample_layers\.0\.", r"stem."),
        (r"^downsample_layers\.([123])\.", r"stages.\1.downsample."),
        (r"^stages\.(\d+)\.(\d+)\.fast_path\.0\.", r"sparsity.fast_paths.\1_\2.norm."),
        (r"^stages\.(\d+)\.(\d+)\.fast_path\.1\.", r"sparsity.fast_paths.\1_\2.fc."),
        (r"^stages\.(\d+)\.(\d+)\.fast_path_gamma$", r"sparsity.fast_paths.\1_\2.gamma"),
        (r"^stages\.(\d+)\.(\d+)\.dwconv\.", r"stages.\1.blocks.\2.conv_dw."),
        (r"^stages\.(\d+)\.(\d+)\.pwconv([12])\.", r"stages.\1.blocks.\2.mlp.fc\3."),
        (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
        (r"^norm\.", r"head.norm."),
        (r"^head\.(weight|bias)$", r"head.fc.\1"),
    ),
    "swin": (
        (r"^layers\.(\d+)\.blocks\.(\d+)\.fastmlp\.fc1\.0\.", r"sparsity.fast_paths.\1_\2.norm."),
        (r"^layers\.(\d+)\.blocks\.(\d+)\.fastmlp\.fc1\.1\.", r"sparsity.fast_paths.\1_\2.fc."),
        # Patches are merged at the end of a stage in the published code, at the start of the next stage in timm.
        (r"^layers\.0\.downsample\.", r"layers.1.downsample."),
        (r"^layers\.1\.downsample\.", r"layers.2.downsample."),
        (r"^layers\.2\.downsample\.", r"layers.3.downsample."),
        (r"^head\.(weight|bias)$", r"head.fc.\1"),
    ),
}


def layout_of(names: Iterable[str]) -> Layout:
    """The naming scheme of parameter names; it is the same for all ViTs.

    Args:
        names: Parameter names.
    """
    names = list(names)
    if any(name.startswith("downsample_layers.") for name in names):
        return "convnext"
    if any(name.startswith("layers.0.downsample.") for name in names):
        return "swin"
    return "timm"


def num_predictors(names: Iterable[str]) -> int:
    """Number of predictors, under their published names or those of this package.

    Args:
        names: Parameter names.
    """
    matches = (_PREDICTOR.match(name) or _OUR_PREDICTOR.match(name) for name in names)
    return len({match[1] for match in matches if match})


def has_sparse_names(names: Iterable[str]) -> bool:
    """Whether there are predictors or fast paths among parameter names, published ones or those of this package.

    Args:
        names: Parameter names.
    """
    names = list(names)
    return bool(num_predictors(names)) or any("fast_path" in name or ".fastmlp." in name for name in names)


def new_names(names: Iterable[str], *, blocks: Sequence[int]) -> dict[str, str | None]:
    """Map published parameter names to those of this package; None for a buffer that timm recomputes.

    Args:
        names: Parameter names.
        blocks: Locations of the predictors, in order: 0-based blocks of the only stage of a ViT, or of the third stage
            of ConvNeXt and Swin.

    Raises:
        CheckpointError: There are more predictors than blocks.
    """
    names = list(names)
    layout = layout_of(names)
    return {name: _new_name(name, layout, blocks) for name in names}


def squeezed(name: str, tensor: Tensor) -> Tensor:
    """Convert the 1x1 convolutions of published predictors to linear layers.

    Args:
        name: Name of the parameter in this package.
        tensor: Its published value.
    """
    if name.startswith("sparsity.") and tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
        return tensor[:, :, 0, 0]
    return tensor


def _new_name(name: str, layout: Layout, blocks: Sequence[int]) -> str | None:
    if name.endswith(_REBUILT):
        return None
    predictor = _PREDICTOR.match(name)
    if predictor:
        number = int(predictor[1])
        if number >= len(blocks):
            raise CheckpointError(
                f"{name} belongs to predictor {number}, but the schedule has {len(blocks)} predictors; "
                "give the schedule of the checkpoint"
            )
        return f"sparsity.predictors.{_SPARSE_STAGE[layout]}_{blocks[number]}.{predictor[2]}"
    for pattern, replacement in _RULES[layout]:
        renamed, count = re.subn(pattern, replacement, name)
        if count:
            return renamed
    return name
