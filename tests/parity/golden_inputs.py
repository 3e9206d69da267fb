"""Inputs of the golden numbers: weights by reference key, images, policies and decisions, all from numpy seeds.

Each weight is a standard normal draw seeded with its own key, times a scale, plus an offset.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

GOLDEN = Path(__file__).parent / "golden"
KEY_SUFFIX = "#b"

# Pattern of the key, scale, offset; what no pattern names goes by the number of its axes.
_RULES: tuple[tuple[str, float, float], ...] = (
    (r"running_mean$", 0.1, 0.0),
    (r"running_var$", 0.1, 1.0),
    (r"gamma", 0.05, 0.5),
    (r"(cls_token|pos_embed|relative_position_bias_table)$", 0.3, 0.0),
)
_NOT_DRAWN = re.compile(r"(relative_position_index|attn_mask|num_batches_tracked)$")
_PREDICTOR_OUTPUT = re.compile(r"out_conv\.4\.weight$")


def normal(seed: int, shape: Iterable[int], scale: float = 1.0) -> Tensor:
    draw = np.random.Generator(np.random.PCG64(seed)).standard_normal(tuple(shape)).astype(np.float32)
    return torch.from_numpy(draw * np.float32(scale))


def bernoulli(seed: int, shape: Iterable[int], p: float) -> Tensor:
    draw = np.random.Generator(np.random.PCG64(seed)).random(tuple(shape))
    return torch.from_numpy((draw < p).astype(np.float32))


def integers(seed: int, shape: Iterable[int], high: int) -> Tensor:
    draw = np.random.Generator(np.random.PCG64(seed)).integers(0, high, size=tuple(shape))
    return torch.from_numpy(draw.astype(np.int64))


def image(seed: int = 0, batch: int = 2, size: int = 224) -> Tensor:
    return normal(seed, (batch, 3, size, size))


def forced_decision(predictor: int, p: float, *, seed: int = 50, batch: int = 2, positions: int = 196) -> Tensor:
    return bernoulli(seed + predictor, (batch, positions), p)


def policy_case() -> Tensor:
    """The `bern` policy, class token included, `2 x 197`."""
    return torch.cat((torch.ones(2, 1), bernoulli(8, (2, 196), 0.6)), dim=1)


def weight(key: str, shape: tuple[int, ...], *, suffix: str = KEY_SUFFIX) -> Tensor | None:
    """The golden value of one reference parameter; None if it is not drawn."""
    if _NOT_DRAWN.search(key):
        return None
    draw = normal(zlib.crc32(f"{key}{suffix}".encode()), shape).numpy()
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
    scale, offset = _scale_and_offset(key, len(shape), fan_in)
    if key.endswith("running_var"):
        draw = np.abs(draw)
    return torch.from_numpy(draw * np.float32(scale) + np.float32(offset))


def _scale_and_offset(key: str, ndim: int, fan_in: int) -> tuple[float, float]:
    for pattern, scale, offset in _RULES:
        if re.search(pattern, key):
            return scale, offset
    if _PREDICTOR_OUTPUT.search(key):
        return 12.0 / fan_in**0.5, 0.0
    if ndim > 1:
        return 1.0 / fan_in**0.5, 0.0
    return (0.05, 1.0) if key.endswith(".weight") else (0.02, 0.0)


@cache
def reference_weights(model: str) -> Mapping[str, Tensor]:
    """All golden weights of a reference model, by reference key."""
    keys = json.loads((GOLDEN / f"keys_{model}.json").read_text(encoding="utf-8"))["keys"]
    drawn = {key: weight(key, tuple(entry["shape"])) for key, entry in keys.items()}
    return {key: value for key, value in drawn.items() if value is not None}


def load_reference_(model: nn.Module, weights: Mapping[str, Tensor], blocks: Iterable[int]) -> None:
    """Load reference weights into a sparse timm ViT; predictor p sits before the p-th of `blocks`."""
    renamed = dict(weights)
    for number, block in enumerate(blocks):
        old, new = f"score_predictor.{number}.", f"sparsity.predictors.0_{block}."
        renamed = {key.replace(old, new) if key.startswith(old) else key: value for key, value in renamed.items()}
    wanted = set(model.state_dict())
    dense_only = {key: value for key, value in renamed.items() if key in wanted or "predictor" not in key}
    model.load_state_dict(dense_only, strict=True)


# Published name, name in timm or under `sparsity`; the first that fits is taken.
_CONVNEXT_NAMES: tuple[tuple[str, str], ...] = (
    (r"downsample_layers\.0\.(.*)", r"stem.\1"),
    (r"downsample_layers\.(\d)\.(.*)", r"stages.\1.downsample.\2"),
    (r"stages\.(\d)\.(\d+)\.fast_path\.0\.(.*)", r"sparsity.fast_paths.\1_\2.norm.\3"),
    (r"stages\.(\d)\.(\d+)\.fast_path\.1\.(.*)", r"sparsity.fast_paths.\1_\2.fc.\3"),
    (r"stages\.(\d)\.(\d+)\.fast_path_gamma", r"sparsity.fast_paths.\1_\2.gamma"),
    (r"stages\.(\d)\.(\d+)\.dwconv\.(.*)", r"stages.\1.blocks.\2.conv_dw.\3"),
    (r"stages\.(\d)\.(\d+)\.pwconv(\d)\.(.*)", r"stages.\1.blocks.\2.mlp.fc\3.\4"),
    (r"stages\.(\d)\.(\d+)\.(.*)", r"stages.\1.blocks.\2.\3"),
    (r"norm\.(.*)", r"head.norm.\1"),
    (r"head\.(.*)", r"head.fc.\1"),
)
_SWIN_NAMES: tuple[tuple[str, str], ...] = (
    (r"layers\.(\d)\.blocks\.(\d+)\.fastmlp\.fc1\.0\.(.*)", r"sparsity.fast_paths.\1_\2.norm.\3"),
    (r"layers\.(\d)\.blocks\.(\d+)\.fastmlp\.fc1\.1\.(.*)", r"sparsity.fast_paths.\1_\2.fc.\3"),
    *((rf"layers\.{s}\.downsample\.(.*)", rf"layers.{s + 1}.downsample.\1") for s in range(3)),
    (r"head\.(.*)", r"head.fc.\1"),
)


def load_hierarchical_(model: nn.Module, weights: Mapping[str, Tensor], blocks: Iterable[int]) -> None:
    """Load reference weights into a sparse timm ConvNeXt or Swin; predictor p sits before the p-th block of stage 2."""
    is_convnext = any(key.startswith("downsample_layers.") for key in weights)
    places = list(blocks)
    renamed = {}
    for key, value in weights.items():
        predictor = re.fullmatch(r"(?:layers\.2\.)?score_predictor\.(\d)\.(.*)", key)
        if predictor:
            new = f"sparsity.predictors.2_{places[int(predictor[1])]}.{predictor[2]}"
            value = value.flatten(1) if value.ndim == 4 else value
        else:
            rules = _CONVNEXT_NAMES if is_convnext else _SWIN_NAMES
            fitting = (re.sub(old, new, key) for old, new in rules if re.fullmatch(old, key))
            new = next(fitting, key)
        renamed[new] = value
    model.load_state_dict(renamed, strict=True)


def golden(name: str) -> dict[str, NDArray[np.generic]]:
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}
