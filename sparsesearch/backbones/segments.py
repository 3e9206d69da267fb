"""Run a model in segments, so that the output of its first blocks can be stored and resumed from.

`finish(run_blocks(embed(images), 0, depth))` is `model(images)`, bit for bit, for every family. Blocks are numbered
over all stages in order of execution; layers directly before a block, such as a stage's downsampling, run with it.

A `PrefixState` is a forward pass that was stopped before a block: the tokens and the trace. It can be resumed under any
schedule that agrees on everything before that block (`done_before`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import fields, replace
from typing import Any, NamedTuple

from torch import Tensor, nn

from sparsesearch.backbones.sparsity import Sparsity, sparsity_of
from sparsesearch.backbones.transforms import family_of
from sparsesearch.sparsify.state import Trace
from sparsesearch.sparsify.token_state import TokenState


class PrefixState(NamedTuple):
    """A forward pass that was stopped before a block.

    Attributes:
        x: The tokens or the feature map.
        trace: The trace of the pass; None before the first block.
    """

    x: Tensor
    trace: Trace | None = None

    @property
    def num_bytes(self) -> int:
        """Memory used by its tensors."""
        return sum({t.data_ptr(): t.numel() * t.element_size() for t in (self.x, *_tensors(self.trace))}.values())


def num_blocks(model: nn.Module) -> int:
    """Number of blocks of a model, over all stages."""
    return len(family_of(model).blocks(model))


def embed(model: nn.Module, x_BCHW: Tensor) -> Tensor:
    """Run everything before the first block.

    Args:
        model: A model of any family, sparse or dense.
        x_BCHW: Images.

    Returns:
        Tokens `B x T x C`, prefix tokens first, or the feature map that the first block expects.
    """
    return family_of(model).embed(model, x_BCHW)


def run_blocks(model: nn.Module, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
    """Run the blocks from `start` to `stop` (exclusive), with the steps of the schedule at each of them.

    If a step of the schedule is before `start`, the call continues the previous call, which must have ended at `start`;
    otherwise the tokens may come from anywhere, for example from a cache.

    Args:
        model: A model of any family, sparse or dense.
        x: Input tokens or feature map of block `start`.
        start: First block to run, numbered over all stages.
        stop: First block not to run; None for all remaining blocks.

    Returns:
        Input tokens or feature map of block `stop`.
    """
    family = family_of(model)
    blocks = family.blocks(model)
    sparsity = getattr(model, "sparsity", None)
    if isinstance(sparsity, Sparsity):
        before = set(blocks[:start])
        if not any((stage, block) in before for stage, block, _ in sparsity.state.plan):
            sparsity.state.begin()
    return family.run(model, x, blocks[start:stop])


def finish(model: nn.Module, x: Tensor) -> Tensor:
    """Run everything after the last block.

    Args:
        model: A model of any family, sparse or dense.
        x: Tokens or feature map after the last block.

    Returns:
        Logits, `B x` classes.
    """
    return family_of(model).finish(model, x)


def advance(model: nn.Module, prefix_state: PrefixState, start: int, stop: int) -> PrefixState:
    """Resume a pass of a sparse model before block `start`, and stop it before block `stop`.

    Args:
        model: A sparse model whose schedule agrees with that of the prefix state before `start`.
        prefix_state: Not changed.
        start: Block before which the prefix state was stopped.
        stop: Block before which to stop; the number of blocks to run all of them.
    """
    state = sparsity_of(model).state
    if prefix_state.trace is None:
        state.begin()
    else:
        state.trace = replace(prefix_state.trace, steps=[])
    family = family_of(model)
    x = family.run(model, prefix_state.x, family.blocks(model)[start:stop])
    return PrefixState(x, replace(state.trace, steps=[]))


def done_before(model: nn.Module, index: int) -> Hashable:
    """Key of everything that a sparse model does differently from the dense model before a block.

    A prefix state before the block can be resumed under any schedule with an equal key.

    Args:
        model: A sparse model.
        index: The block, numbered over all stages.
    """
    sparsity = sparsity_of(model)
    before = set(family_of(model).blocks(model)[:index])
    state: Any = sparsity.state
    resolved = [step for step in sparsity.schedule.resolve(sparsity.geometry) if (step.stage, step.block) in before]
    steps = tuple(step.model_dump_json() for step in resolved)
    if not isinstance(state, TokenState):
        return steps
    notes = tuple(sorted((block, captures) for block, captures in state.captures.items() if (0, block) in before))
    if not resolved:
        return steps, notes
    return steps, notes, state.counts_size, state.weighs_attention, state.forgets_statistics, state.tracks_positions


def _tensors(value: object) -> Iterator[Tensor]:
    """The tensors of a trace."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, Trace):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))
