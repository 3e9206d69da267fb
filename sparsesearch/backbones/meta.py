"""Models without weights: their shapes and costs can be read at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_FILLING = {
    getattr(Tensor, name)
    for name in ("add_", "clamp_", "copy_", "div_", "erfinv_", "fill_", "mul_", "normal_", "sub_", "uniform_", "zero_")
}


class _NoInitialisation(TorchFunctionMode):
    """Skips operations that only fill a tensor, if it has no memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FILLING and isinstance(args[0], Tensor) and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def without_weights() -> Iterator[None]:
    """Build models on the meta device while the block runs, without running their initialisation.

    `clamp_` and its like are written in Python for the meta device and take most of the time of building a model there.
    """
    with torch.device("meta"), _NoInitialisation():
        yield
