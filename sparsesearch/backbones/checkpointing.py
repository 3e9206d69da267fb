"""Gradient checkpointing of sparse models: per block, after its steps, so that tokens are selected only once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from sparsesearch.sparsify.state import SparsityState


@contextmanager
def checkpoints_in_blocks(modules: Iterable[nn.Module], state: SparsityState, *, training: bool) -> Iterator[None]:
    """Let the sparse blocks handle timm's flag `grad_checkpointing` during a forward pass.

    timm's own checkpointing would run the steps before a block again in the backward pass, and might select other
    tokens.

    Args:
        modules: The modules with timm's flag: the model, or its stages.
        state: State shared by the blocks.
        training: Whether the model is in training mode.
    """
    enabled: list[Any] = [module for module in modules if training and getattr(module, "grad_checkpointing", False)]
    for module in enabled:
        module.grad_checkpointing = False
    state.checkpoints = bool(enabled)
    try:
        yield
    finally:
        state.checkpoints = False
        for module in enabled:
            module.grad_checkpointing = True
