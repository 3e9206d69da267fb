"""What hierarchical families have in common: blocks in which some positions take a fast path."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparsesearch.backbones.sparsity import Sparsity
from sparsesearch.errors import ScheduleError
from sparsesearch.schedule import ResolvedStep
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import FastPath, FastSlow
from sparsesearch.sparsify.grid_state import Block, GridState, Pair
from sparsesearch.sparsify.paths import build_fast_path

_Result = TypeVar("_Result", Tensor, Pair)


def grid_state(geometry: BackboneGeometry, generator: torch.Generator) -> GridState:
    """The state that the modules of a model will share."""
    return GridState(generator=generator, grids=tuple(stage.grid for stage in geometry.stages))


def add_fast_paths_(
    model: nn.Module, sparsity: Sparsity, step: ResolvedStep, *, seed: int, eps: float, scale: float | None
) -> None:
    """Build the fast paths that a step needs: those of all blocks from its own to the end of the stage.

    Args:
        model: The model.
        sparsity: What was added to it.
        step: The step.
        seed: Seed of new weights.
        eps: Of the layer norms.
        scale: Initial value of layer scales; None for none.
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


def plan_fast_paths_(sparsity: Sparsity, resolved: Iterable[ResolvedStep]) -> None:
    """Tell the state which fast path each block has under the steps in force.

    Raises:
        ScheduleError: One is not attached.
    """
    state = sparsity.state
    assert isinstance(state, GridState)
    in_force: dict[Block, ResolvedStep] = {}
    for step in resolved:
        for block in range(step.block, sparsity.geometry.stages[step.stage].depth):
            in_force[step.stage, block] = step
    state.paths = {
        block: _fast_path(sparsity, block, step.reducer.fast_path)
        for block, step in in_force.items()
        if isinstance(step.reducer, FastSlow) and step.num_tokens < step.num_before
    }


def fast_path_name(block: Block, kind: FastPath) -> str:
    """The place of a fast path as it stands in parameter names."""
    place = f"{block[0]}_{block[1]}"
    return place if kind == "linear" else f"{place}_{kind}"


def run_part(part: Callable[..., _Result], *inputs: Tensor, state: GridState) -> _Result:
    """The part of a block behind its steps; with gradient checkpointing computed again in the backward pass."""
    if not state.checkpoints:
        return part(*inputs)
    result: _Result = checkpoint(part, *inputs, use_reentrant=False)
    return result


def _fast_path(sparsity: Sparsity, block: Block, kind: FastPath) -> nn.Module | None:
    name = fast_path_name(block, kind)
    if kind == "identity":
        return None
    if name not in sparsity.fast_paths:
        raise ScheduleError(
            f"no {kind} fast path at block {block[1]} of stage {block[0]}; attach_ it first, or use sparsify_"
        )
    return sparsity.fast_paths[name]
