"""What changes in foreign weights besides their names: grids that were resampled, channels that are adapted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from timm.models import adapt_input_conv
from torch import Tensor, nn

POSITIONS, BIASES = "pos_embed", "relative_position_bias_table"
_PATCHES = "patch_embed.proj.weight"


@dataclass(frozen=True)
class Change:
    """A tensor that was resampled or adapted.

    Attributes:
        name: Name of the tensor in the model.
        what: What it is, in words.
        old: Its size in the file, such as `14x14`.
        new: Its size in the model.
    """

    name: str
    what: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.name} {self.old} -> {self.new}"


def first_convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    """The convolutions that see the image, by name."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    channels = next((module.in_channels for module in found.values()), None)
    return {name: module for name, module in found.items() if module.in_channels == channels and module.groups == 1}


def resampled_tensors(model: nn.Module, tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[Change]:
    """Which tensors differ from those of the file by more than their names.

    Args:
        model: The model that they are for.
        tensors: Name in the model to tensor.
        weights: Name in the file to tensor.
    """
    originals = {id(tensor) for tensor in weights.values()}
    changes = []
    for name, tensor in tensors.items():
        source = next((given for other, given in weights.items() if other.endswith(name)), None)
        if id(tensor) in originals or source is None:
            continue
        if name.endswith(POSITIONS):
            change = Change(name, "position embedding", _old_grid(model, source), _grid_text(model))
        elif name.endswith(BIASES):
            change = Change(name, "position bias table", _window_text(source), _window_text(tensor))
        elif name.endswith(_PATCHES):
            change = Change(name, "patch embedding", _size_text(source.shape[-2:]), _size_text(tensor.shape[-2:]))
        else:
            continue
        if change.old != change.new:
            changes.append(change)
    return changes


def adapt_channels_(model: nn.Module, tensors: dict[str, Tensor]) -> list[Change]:
    """Adapt the first convolutions to the channels of the image as timm does, in place in the dictionary.

    Args:
        model: The model that the tensors are for.
        tensors: Name in the model to tensor.
    """
    changes = []
    for name, module in first_convolutions(model).items():
        wanted, tensor = module.weight, tensors.get(f"{name}.weight")
        if tensor is None or tensor.ndim != 4 or tensor.shape[1] in (0, wanted.shape[1]):
            continue
        if (tensor.shape[0], *tensor.shape[2:]) == (wanted.shape[0], *wanted.shape[2:]):
            old, new = tensor.shape[1], wanted.shape[1]
            tensors[f"{name}.weight"] = adapt_input_conv(new, tensor, base_chans=old)
            changes.append(Change(f"{name}.weight", "first convolution", f"{old}", f"{new} channels"))
    return changes


def _old_grid(model: Any, source: Tensor) -> str:
    count = source.shape[-2] if source.ndim > 1 else 0
    for prefix in (1, 0, getattr(model, "num_prefix_tokens", 1)):
        side = math.isqrt(max(0, count - prefix))
        if side and side * side == count - prefix:
            return f"{side}x{side}"
    return f"{count} positions"


def _grid_text(model: Any) -> str:
    return _size_text(model.patch_embed.grid_size)


def _window_text(table: Tensor) -> str:
    side = (math.isqrt(table.shape[0]) + 1) // 2
    return f"{side}x{side}" if (2 * side - 1) ** 2 == table.shape[0] else f"{table.shape[0]} offsets"


def _size_text(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
