"""Time schedules in small interleaved groups, each together with the dense model.

The latency of a schedule is measured relative to the dense model in the same rounds, which cancels drifts in machine
speed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparsesearch.backbones.sparsity import sparsity_of
from sparsesearch.backbones.transforms import family_of, sparsify_
from sparsesearch.errors import ProfileError, ScheduleError
from sparsesearch.latency.profile.design import Planned
from sparsesearch.latency.target import Target
from sparsesearch.latency.timer import Measured, Work, measure, stopwatch_for
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry

DENSE = "dense"
GROUP = 6
MEASURE_FACTOR = 2.25
"""Upper bound of the duration of `measure` relative to its limit: a warm-up, and a second attempt on a busy machine."""

OnPercent = Callable[[int], object]
"""Called with the percentage of the work done since the last call; the calls add up to 100."""


def ignore_percent(percent: int) -> None:
    """An `OnPercent` that does nothing."""


class PercentCounter:
    """Reports progress in percent. Each schedule has two steps: the first call, which compiles, and the timed runs."""

    def __init__(self, total: int, on_percent: OnPercent) -> None:
        self._done, self._reported, self._total, self._on_percent = 0, 0, total, on_percent

    def advance(self, steps: int = 1) -> None:
        """Count steps as done."""
        self._done += steps
        percent = 100 * self._done // self._total
        self._on_percent(percent - self._reported)
        self._reported = percent

    def finish(self) -> None:
        """Count all remaining steps as done, although they are skipped."""
        self.advance(self._total - self._done)


def time_group(
    target: Target,
    dense: nn.Module,
    group: Sequence[Planned],
    *,
    images: Tensor,
    shape: BackboneGeometry,
    runs: int,
    seconds: float | None,
    on_ready: Callable[[], object],
) -> Measured:
    """Time the dense model and a group of others interleaved; recompiled, so that no shape is dynamic.

    `on_ready` is called after the first run of each of the others.
    """
    if target.compiled:
        torch.compiler.reset()

    def work_of(model: nn.Module, x: Tensor) -> Work:
        if target.runtime == "cuda-graph":
            return replayed(model, x)
        call: Any = model
        if target.compiled:
            call = torch.compile(model, dynamic=False)
        elif target.ready is not None:
            call = target.ready(model, x)
        return lambda: call(x)

    works: dict[str, Work] = {DENSE: work_of(dense, images)}
    try:
        for number, one in enumerate(group):
            if one.num_tokens is None:
                works[str(number)] = work_of(_sparse(dense, one.schedule), images)
            else:
                stage = shape.stages[0]
                x_BTC = target.noise(target.batch_size, one.num_tokens + stage.num_prefix_tokens, stage.dim)
                works[str(number)] = work_of(_FeedForwards(dense), x_BTC)
            works[str(number)]()
            on_ready()
        return measure(
            works,
            device=target.device,
            num_runs=runs,
            seconds=seconds,
            stopwatch=stopwatch_for(target.device, target.clock),
        )
    except torch.OutOfMemoryError as error:
        raise ProfileError(
            f"{shape.name} does not fit into the memory of {target.device} at batch size {target.batch_size}; "
            "use a smaller --batch-size"
        ) from error


def replayed(model: nn.Module, x: Tensor) -> Work:
    """A call of a model on the current CUDA device as a graph that is replayed, without launching its kernels again."""
    beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            model(x)
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(x)
    return graph.replay


def _sparse(dense: nn.Module, schedule: Schedule) -> nn.Module:
    """A sparse model that shares the weights of the dense one, to save memory."""
    shared = {id(tensor): tensor for tensor in (*dense.parameters(), *dense.buffers())}
    model = copy.deepcopy(dense, shared)
    sparsify_(model, schedule)
    sparsity_of(model).state.record = False
    return model


class _FeedForwards(nn.Module):
    """The feed-forward networks of all blocks in sequence, as residual branches."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.blocks = plain_blocks(model)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Tokens in, tokens out."""
        for block in self.blocks:
            x_BTC = x_BTC + block.mlp(block.norm2(x_BTC))
        return x_BTC


def plain_blocks(model: nn.Module) -> list[Any]:
    """The blocks, or an empty list if they are not two residual branches with known names."""
    family = family_of(model)
    blocks: list[Any] = [family.block(model, stage, block) for stage, block in family.blocks(model)]
    return blocks if all(hasattr(block, "norm2") and hasattr(block, "mlp") for block in blocks) else []


def can_run(dense: nn.Module, one: Planned) -> bool:
    """Whether the model can run a measurement; unsupported blocks have no `before_ffn` phase or unknown attention."""
    if one.role == "part":
        return bool(plain_blocks(dense))
    family = family_of(dense)
    try:
        for step in one.schedule.resolve(family.token_geometry(dense)):
            family.check_step(dense, step)
    except ScheduleError:
        return False
    return True
