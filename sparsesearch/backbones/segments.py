"""A model in three pieces, so that the output of its first blocks can be kept and resumed from.

`finish(run_blocks(embed(images), 0, depth))` is `model(images)`, bit for bit, for every family. Blocks are numbered
through all stages in order of execution; what lies in front of a block, such as a stage's downsampling, is run with it.

A `PrefixState` is a pass that has stopped before a block: the tokens, and what the state remembers of them. It can be
taken up again under any schedule that would have done the same so far (`done_before`).
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
    """A pass that has stopped in front of a block.

    Attributes:
        x: The tokens or the map.
        trace: What the state remembers; None at the very beginning.
    """

    x: Tensor
    trace: Trace | None = None

    @property
    def num_bytes(self) -> int:
        """Memory that it takes."""
        return sum({t.data_ptr(): t.numel() * t.element_size() for t in (self.x, *_tensors(self.trace))}.values())


def num_blocks(model: nn.Module) -> int:
    """Blocks of a model, over all stages."""
    return len(family_of(model).blocks(model))


def embed(model: nn.Module, x_BCHW: Tensor) -> Tensor:
    """Everything in front of the first block.

    Args:
        model: A model of any family, sparse or dense.
        x_BCHW: Images.

    Returns:
        Tokens `B x T x C`, prefix tokens first, or a map as the blocks of the model take it.
    """
    return family_of(model).embed(model, x_BCHW)


def run_blocks(model: nn.Module, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
    """The blocks from `start` to before `stop`, with the steps of the schedule at each of them.

    If a step of the schedule lies in front of `start`, the call continues the one before it, which must have ended
    at `start`; otherwise the tokens may come from anywhere, for example from a cache.

    Args:
        model: A model of any family, sparse or dense.
        x: Tokens or map as they arrive at block `start`.
        start: First block to run, numbered through all stages.
        stop: First block not to run; None for all that are left.

    Returns:
        Tokens or map as they arrive at block `stop`.
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
    """Everything behind the last block.

    Args:
        model: A model of any family, sparse or dense.
        x: Tokens or map behind the last block.

    Returns:
        Logits, `B x` classes.
    """
    return family_of(model).finish(model, x)


def advance(model: nn.Module, prefix_state: PrefixState, start: int, stop: int) -> PrefixState:
    """Take a pass of a sparse model up in front of block `start` and stop it in front of block `stop`.

    Args:
        model: A sparse model under a schedule that so far has done what the prefix state's did.
        prefix_state: Not changed.
        start: Where it stopped.
        stop: Where to stop it; all blocks if it is their number.
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
    """All that a sparse model's schedule has it do otherwise than the dense model in front of a block.

    A prefix state before of the block may be taken up under any schedule for which this is equal.

    Args:
        model: A sparse model.
        index: The block, numbered through all stages.
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
    """The tensors that a trace holds on to."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, Trace):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))
