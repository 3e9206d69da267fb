"""The geometry of a recorded model at any image size, number of classes and number of channels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry

Size = tuple[int, int]


def positions(image_size: Size, scale: Sequence[int]) -> Size:
    """The grid of a layer: the image size divided by one factor after the other.

    Padded convolutions round up, convolutions without padding round down. A chain of the same kind is one factor.

    Args:
        image_size: Height and width in pixels.
        scale: The factors; a positive one rounds up, a negative one rounds down.
    """
    height, width = image_size
    for factor in scale:
        if factor > 0:
            height, width = -(-height // factor), -(-width // factor)
        else:
            height, width = height // -factor, width // -factor
    return height, width


def window_macs(grid: Size, window: Size, *, dim: int, attn_dim: int) -> int:
    """Multiply-adds of attention in windows over a grid padded to whole windows.

    A window of `A` positions costs `A * 4 * dim * attn_dim + A^2 * 2 * attn_dim`.

    Args:
        grid: Height and width of the grid.
        window: Height and width of a window.
        dim: Channels of the residual stream.
        attn_dim: Channels of the queries over all heads.
    """
    windows = math.ceil(grid[0] / window[0]) * math.ceil(grid[1] / window[1])
    area = window[0] * window[1]
    return windows * (area * 4 * dim * attn_dim + area * area * 2 * attn_dim)


def geometry_at(
    form: Mapping[str, Any], *, name: str, image_size: Size, num_classes: int, in_chans: int
) -> BackboneGeometry | None:
    """The geometry of a model from its recorded form; None if it is not recorded for this image size.

    Args:
        form: `stages`, `stem`, `head`, `head_token`, `params`, and the image sizes for which they hold (`sizes`: the
            smallest side and the divisor of all sides).
        name: Name of the model, part of the result.
        image_size: Height and width in pixels.
        num_classes: Classes of the head.
        in_chans: Channels of the image.
    """
    least, divisor = form["sizes"]
    if min(image_size) < least or any(side % divisor for side in image_size):
        return None
    stages = [dict(stage) for stage in form["stages"]]
    bias_tables = 0
    for stage in stages:
        grid = stage["grid"] = positions(image_size, stage.pop("scale"))
        area = grid[0] * grid[1]
        if area == 0:
            return None
        for key in ("mixer_macs", "entry_macs"):
            stage[key] = area * stage.get(key, 0)
        if "window" in stage:
            window = stage.pop("window")
            height, width = min(window, grid[0]), min(window, grid[1])
            stage["mixer_macs"] = window_macs(grid, (height, width), dim=stage["dim"], attn_dim=stage["attn_dim"])
            bias_tables += stage["depth"] * stage["num_heads"] * (2 * height - 1) * (2 * width - 1)
    stem_macs = 0
    for scale, macs, macs_per_channel in form["stem"]:
        height, width = positions(image_size, scale)
        stem_macs += height * width * (macs + macs_per_channel * in_chans)
    params, per_class, per_channel, per_token = form["params"]
    height, width = stages[0]["grid"]
    return BackboneGeometry(
        name=name,
        image_size=image_size,
        stages=tuple(StageGeometry(**stage) for stage in stages),
        stem_macs=stem_macs,
        head_macs=_linear(form["head"], num_classes),
        head_token_macs=_linear(form.get("head_token", (0, 0)), num_classes),
        params=params + per_class * num_classes + per_channel * in_chans + per_token * height * width + bias_tables,
    )


def _linear(terms: Sequence[int], num_classes: int) -> int:
    constant, per_class = terms
    return constant + per_class * num_classes
