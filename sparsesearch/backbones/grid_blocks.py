"""Common code of hierarchical families: blocks in which some positions take a fast path."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparsesearch.backbones.sparsity import Sparsity
from sparsesearch.errors import ScheduleError
from sparsesearch.schedule import ResolvedStep
from sparsesearch.schedule.methods import FastPath, FastSlow
from sparsesearch.sparsify.grid_call import GridCall, Pair
from sparsesearch.sparsify.model_plan import Block
from sparsesearch.sparsify.paths import build_fast_path

_Result = TypeVar("_Result", Tensor, Pair)


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
