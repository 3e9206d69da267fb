"""Run a model in segments, so that the output of its first blocks can be stored and resumed from.

`finish(run_blocks(embed(images), 0, depth))` is `model(images)`, bit for bit, for every family. Blocks are numbered
over all stages in order of execution; layers directly before a block, such as a stage's downsampling, run with it.

A `PrefixState` is a forward pass that was stopped before a block: the tokens and the trace. It can be resumed under any
schedule that agrees on everything before that block (`done_before`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import fields, replace
from typing import NamedTuple

from torch import Tensor, nn

from sparsesearch.backbones.sparsity import Sparsity, sparsity_of
from sparsesearch.backbones.transforms import family_of
from sparsesearch.errors import BackboneError
from sparsesearch.sparsify.call import Call
from sparsesearch.sparsify.trace import Trace


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


def run_blocks(
    model: nn.Module, x: Tensor, start: int = 0, stop: int | None = None, *, call: Call | None = None
) -> Tensor:
    """Run the blocks from `start` to `stop` (exclusive), with the steps of the schedule at each of them.

    Args:
        model: A model of any family, sparse or dense.
        x: Input tokens or feature map of block `start`. If no step of the schedule is before it, they may come from
            anywhere, for example from a cache.
        start: First block to run, numbered over all stages.
        stop: First block not to run; None for all remaining blocks.
        call: The call of a sparse model that ran the blocks before `start`, see `new_call`; None to begin one.

    Returns:
        Input tokens or feature map of block `stop`.

    Raises:
        BackboneError: A step of the schedule is before `start`, and there is no call.
    """
    family = family_of(model)
    blocks = family.blocks(model)
    sparsity = getattr(model, "sparsity", None)
    if call is None and isinstance(sparsity, Sparsity):
        if sparsity.state.plan.before(blocks[:start]).steps:
            raise BackboneError(f"a step is before block {start}; run the blocks before it with the same call")
        call = sparsity.begin(training=model.training)
    return family.run(model, x, blocks[start:stop], call)


def finish(model: nn.Module, x: Tensor, *, call: Call | None = None) -> Tensor:
    """Run everything after the last block.

    Args:
        model: A model of any family, sparse or dense.
        x: Tokens or feature map after the last block.
        call: The call of the blocks; its trace is then complete. Required if the tokens have different weights.

    Returns:
        Logits, `B x` classes.

    Raises:
        BackboneError: The call is required.
    """
    return family_of(model).finish(model, x, call)


def advance(model: nn.Module, prefix_state: PrefixState, start: int, stop: int) -> PrefixState:
    """Resume a pass of a sparse model before block `start`, and stop it before block `stop`.

    Args:
        model: A sparse model whose schedule agrees with that of the prefix state before `start`.
        prefix_state: Not changed.
        start: Block before which the prefix state was stopped.
        stop: Block before which to stop; the number of blocks to run all of them.
    """
    call, family = _resumed(model, prefix_state), family_of(model)
    x = family.run(model, prefix_state.x, family.blocks(model)[start:stop], call)
    return PrefixState(x, replace(call.trace, steps=[]))


def complete(model: nn.Module, prefix_state: PrefixState, start: int) -> Tensor:
    """Resume a pass of a sparse model before block `start`, and run it to the end.

    Args:
        model: As in `advance`.
        prefix_state: As in `advance`.
        start: As in `advance`.

    Returns:
        Logits, `B x` classes.
    """
    call, family = _resumed(model, prefix_state), family_of(model)
    return family.finish(model, family.run(model, prefix_state.x, family.blocks(model)[start:], call), call)


def done_before(model: nn.Module, index: int) -> Hashable:
    """Key of everything that a sparse model does differently from the dense model before a block.

    A prefix state before the block can be resumed under any schedule with an equal key.

    Args:
        model: A sparse model.
        index: The block, numbered over all stages.
    """
    state = sparsity_of(model).state
    return state.plan.before(set(family_of(model).blocks(model)[:index])), state.record


def _resumed(model: nn.Module, prefix_state: PrefixState) -> Call:
    trace = None if prefix_state.trace is None else replace(prefix_state.trace, steps=[])
    call: Call = sparsity_of(model).begin(training=model.training, trace=trace)
    return call


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
