"""Common code of hierarchical families: blocks in which some positions take a fast path."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparsesearch.backbones.class_change import refuse_alone
from sparsesearch.backbones.sparsity import Sparsity
from sparsesearch.errors import ScheduleError
from sparsesearch.schedule import ResolvedStep
from sparsesearch.schedule.methods import FastPath, FastSlow
from sparsesearch.sparsify.grid_call import GridCall, Pair, merge
from sparsesearch.sparsify.model_plan import Block
from sparsesearch.sparsify.paths import Split, build_fast_path
from sparsesearch.sparsify.state import SparsityState

_Result = TypeVar("_Result", Tensor, Pair)


class SparseGridBlock(nn.Module):
    """Mixin for the class of every block; families say how the part after its steps runs.

    Attributes:
        sparsity_block: Stage and block.
        sparsity_channels_first: Whether its feature maps are `BCHW`, otherwise `BHWC`.
    """

    sparsity_state: SparsityState
    sparsity_block: Block
    sparsity_channels_first = False

    def sparsity_gathered(self, split: Split, fast: nn.Module | None, x: Tensor) -> Tensor:
        """Run the block with each position on one path; the fast path is the identity if None."""
        raise NotImplementedError

    def sparsity_both_paths(
        self, fast: nn.Module | None, x_BHWC: Tensor, slow_BHWC: Tensor, fast_BHWC: Tensor, mask_BN: Tensor
    ) -> Pair:
        """Run the block with all positions on both paths, each from its own map, given the merged map."""
        raise NotImplementedError

    def forward(self, x: Tensor, *, call: GridCall | None = None) -> Tensor:
        """As in timm, with the steps of the schedule."""
        if call is None:
            refuse_alone(self.sparsity_state)
            y: Tensor = super().forward(x)
            return y
        block = self.sparsity_block
        chosen, x = call.enter(block, x.permute(0, 2, 3, 1) if self.sparsity_channels_first else x)
        if self.sparsity_channels_first:
            x = x.permute(0, 3, 1, 2)
        if not call.has_paths(block):
            dense: Tensor = run_part(super().forward, x, call=call)
            return dense
        fast = call.fast_path(block)
        if call.masked:
            return self._masked(x, call, fast, chosen=chosen)
        assert call.trace.split is not None, "no step has chosen paths"
        return run_part(partial(self.sparsity_gathered, call.trace.split, fast), x, call=call)

    def _masked(self, x: Tensor, call: GridCall, fast: nn.Module | None, *, chosen: bool) -> Tensor:
        """Run the block with all positions on both paths.

        Args:
            x: The input, merged with the mask that was active before the block.
            call: Contains the mask and the feature maps of both paths.
            fast: The fast path; None for the identity.
            chosen: Whether a new mask was sampled before the block.
        """
        trace, x_BHWC = call.trace, x.permute(0, 2, 3, 1) if self.sparsity_channels_first else x
        assert trace.mask_BN is not None, "no step has drawn a mask"
        pair = trace.pair or (x_BHWC, x_BHWC)
        if chosen:
            x_BHWC = merge(pair, trace.mask_BN)
        trace.pair = run_part(partial(self.sparsity_both_paths, fast), x_BHWC, *pair, trace.mask_BN, call=call)
        merged_BHWC = merge(trace.pair, trace.mask_BN)
        return merged_BHWC.permute(0, 3, 1, 2) if self.sparsity_channels_first else merged_BHWC


def add_fast_paths_(
    model: nn.Module, sparsity: Sparsity, step: ResolvedStep, *, seed: int, eps: float, scale: float | None
) -> None:
    """Build the fast paths of a step: one for each block from the step to the end of the stage.

    Args:
        model: The model.
        sparsity: Its sparsity module.
        step: The step.
        seed: Seed of new weights.
        eps: Epsilon of the layer norms.
        scale: Initial value of the layer scales; None for no layer scale.
    """
    assert isinstance(step.reducer, FastSlow)
    stage, kind = sparsity.geometry.stages[step.stage], step.reducer.fast_path
    like = next(model.parameters())
    for block in range(step.block, stage.depth):
        name = fast_path_name((step.stage, block), kind)
        if name in sparsity.fast_paths:
            continue
        path = build_fast_path(kind, dim=stage.dim, name=name, seed=seed, eps=eps, scale=scale)
        if path is not None:
            sparsity.fast_paths[name] = path.to(like).train(model.training)


def planned_fast_paths(sparsity: Sparsity, resolved: Iterable[ResolvedStep]) -> tuple[tuple[Block, str | None], ...]:
    """The blocks in which some positions take a fast path under the active steps, with its name.

    Raises:
        ScheduleError: A fast path is not attached.
    """
    active: dict[Block, ResolvedStep] = {}
    for step in resolved:
        for block in range(step.block, sparsity.geometry.stages[step.stage].depth):
            active[step.stage, block] = step
    return tuple(
        (block, _attached(sparsity, block, step.reducer.fast_path))
        for block, step in active.items()
        if isinstance(step.reducer, FastSlow) and step.num_tokens < step.num_before
    )


def fast_path_name(block: Block, kind: FastPath) -> str:
    """The name of a fast path in parameter names."""
    name = f"{block[0]}_{block[1]}"
    return name if kind == "linear" else f"{name}_{kind}"


def run_part(part: Callable[..., _Result], *inputs: Tensor, call: GridCall) -> _Result:
    """Run the part of a block after its steps; with gradient checkpointing it is recomputed in the backward pass."""
    if not call.checkpoints:
        return part(*inputs)
    result: _Result = checkpoint(part, *inputs, use_reentrant=False)
    return result


def _attached(sparsity: Sparsity, block: Block, kind: FastPath) -> str | None:
    name = fast_path_name(block, kind)
    if kind == "identity":
        return None
    if name not in sparsity.fast_paths:
        raise ScheduleError(
            f"no {kind} fast path at block {block[1]} of stage {block[0]}; call attach_ first, or use sparsify_"
        )
    return name
