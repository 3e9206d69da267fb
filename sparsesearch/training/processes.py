"""The processes that train one model together.

No module is wrapped: gradients are summed between the backward pass and clipping. Every process computes its share of
each step (`data.task.Share`); what it draws at random depends on the place of an image in the step, never on the
process, so the result is that of one process up to the order of additions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sparsesearch.data.task import Share

_BUCKET_BYTES = 32 * 2**20
_LONGEST_WAIT = timedelta(days=1)
"""How long processes wait for the first one, which validates, and whose results are stored; a dead one is noticed."""

_T = TypeVar("_T")


class Processes:
    """All processes of `torch.distributed`'s default group, or this one alone if there is none.

    Every method is called by all processes in the same order.

    Attributes:
        rank: Number of this process.
        world: Number of processes.
    """

    def __init__(self) -> None:
        is_grouped = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if is_grouped else 0
        self.world = dist.get_world_size() if is_grouped else 1
        # What is agreed on is small and on the CPU, so it never waits for the device.
        self._control: Any = dist.new_group(backend="gloo", timeout=_LONGEST_WAIT) if self.world > 1 else None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that reports and writes files."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """What this process reads of each step."""
        return Share(self.rank, self.world)

    def sum_gradients_(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients of all processes, in place."""
        if self.world == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            dist.all_reduce(flat)
            parts = torch.split(flat, [gradient.numel() for gradient in bucket])
            for gradient, summed in zip(bucket, parts, strict=True):
                gradient.copy_(summed.view_as(gradient))

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place, without a gradient."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def any_of(self, flags: Sequence[bool]) -> list[bool]:
        """For each flag, whether it is set in any process."""
        if self._control is None:
            return list(flags)
        sent = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(sent, op=dist.ReduceOp.MAX, group=self._control)
        return [bool(flag) for flag in sent.tolist()]

    def from_first(self, make: Callable[[], _T]) -> _T:
        """Call a function in the first process and return its result, which must be picklable, in all of them.

        An error of the function is raised in all of them.
        """
        if self._control is None:
            return make()
        sent: list[object] = [None, None]
        if self.is_first:
            try:
                sent[0] = make()
            except Exception as error:
                sent[1] = error
        dist.broadcast_object_list(sent, src=0, group=self._control)
        if isinstance(sent[1], Exception):
            raise sent[1]
        return cast(_T, sent[0])

    def tensors_from_first(self, read: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Read tensors in the first process and return them in all of them, on the CPU; see `from_first`."""
        if self._control is None:
            return dict(read())
        found: dict[str, Tensor] = {}

        def described() -> list[tuple[str, torch.dtype, torch.Size]]:
            found.update((name, tensor.detach().cpu().contiguous()) for name, tensor in read().items())
            return [(name, tensor.dtype, tensor.shape) for name, tensor in found.items()]

        for name, dtype, shape in self.from_first(described):
            tensor = found.setdefault(name, torch.empty(shape, dtype=dtype))
            dist.broadcast(tensor, src=0, group=self._control)
        return found

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self._control is not None:
            dist.barrier(group=self._control)


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Divide tensors into groups of one type and a limited size."""
    groups: list[list[Tensor]] = []
    size = 0
    for tensor in tensors:
        if not groups or tensor.dtype != groups[-1][0].dtype or size + tensor.nbytes > _BUCKET_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += tensor.nbytes
    return groups


def share_statistics_(model: nn.Module, processes: Processes) -> None:
    """Let the batch norms of a model normalise by the statistics of all processes' images, in place.

    `torch.nn.SyncBatchNorm` does the same for CUDA tensors only.
    """
    if processes.world == 1:
        return
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and type(module) is nn.BatchNorm2d:
            module.__class__ = _SharedBatchNorm


class _Summed(torch.autograd.Function):
    """The sum over all processes; its gradient is that of the sum of their losses."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        summed = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed


def _summed(tensor: Tensor) -> Tensor:
    found: Tensor = _Summed.apply(tensor)
    return found


class _SharedBatchNorm(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not self.track_running_stats:
            return super().forward(input)
        x = input.float()
        dims = (0, 2, 3)
        count = _summed(x.new_tensor(x.numel() / x.shape[1]))
        mean_C = _summed(x.sum(dims)) / count
        centred = x - mean_C[:, None, None]
        var_C = _summed(centred.square().sum(dims)) / count
        self._follow(mean_C.detach(), var_C.detach() * (count / (count - 1)))
        y = centred * torch.rsqrt(var_C + self.eps)[:, None, None]
        scaled: Tensor = y * self.weight[:, None, None] + self.bias[:, None, None]
        return scaled.to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean_C: Tensor, var_C: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean_C.to(self.running_mean), self.momentum)
        self.running_var.lerp_(var_C.to(self.running_var), self.momentum)
