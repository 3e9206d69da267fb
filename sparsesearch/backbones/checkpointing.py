"""Gradient checkpointing of sparse models: block by block, behind the steps, so that tokens are chosen only once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from sparsesearch.sparsify.state import SparsityState


@contextmanager
def checkpoints_in_blocks(modules: Iterable[nn.Module], state: SparsityState, *, training: bool) -> Iterator[None]:
    """While a model runs, its sparse blocks do what timm's flag `grad_checkpointing` asks of whole blocks.

    timm's own checkpointing would run the steps in front of a block once more in the backward pass, and might choose
    otherwise.

    Args:
        modules: The modules that have timm's flag: the model, or its stages.
        state: What the blocks share.
        training: Whether the model is in training mode.
    """
    asked: list[Any] = [module for module in modules if training and getattr(module, "grad_checkpointing", False)]
    for module in asked:
        module.grad_checkpointing = False
    state.checkpoints = bool(asked)
    try:
        yield
    finally:
        state.checkpoints = False
        for module in asked:
            module.grad_checkpointing = True
