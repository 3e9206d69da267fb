"""A GPU for machines without one: tensors with a device, a shape and a type, but no memory.

What runs on them is the real program, up to where a value is needed: a backward pass does not start without a GPU, and
nothing can be read from one.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sparsesearch.training.arithmetic import Arithmetic

GPU = torch.device("cuda", 0)


class TwoDevicesError(AssertionError):
    """An operation has tensors on two devices, or copies between them, for which one waits for the other."""


class _OneDevice(TorchDispatchMode):
    """Lets a constant be copied to the GPU once, and nothing else."""

    def __init__(self):
        super().__init__()
        self._copied = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        devices = {str(tensor.device) for tensor in tensors if not tensor.is_meta}
        if len(devices) > 1 and not self._is_first_copy(func, args[0]):
            raise TwoDevicesError(f"{func} with tensors on {' and '.join(sorted(devices))}")
        return result

    def _is_first_copy(self, func, source):
        if func is not torch.ops.aten._to_copy.default or isinstance(source, FakeTensor):
            return False
        is_first = all(source is not other for other in self._copied)
        self._copied.append(source)
        return is_first


@contextmanager
def fake_gpu(*modules: nn.Module) -> Iterator[None]:
    """Move modules to a fake GPU and compute there while the block runs; fail where anything else takes part."""
    with FakeTensorMode(allow_non_fake_inputs=True), _OneDevice():
        for module in modules:
            _to_gpu_(module)
        yield


def _to_gpu_(module: nn.Module) -> None:
    """Replace the parameters and buffers of a module by fake ones."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(_like(parameter), requires_grad=parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = _like(buffer)


def _like(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=GPU)


class FakeGpuArithmetic(Arithmetic):
    """Computations on the fake GPU, with an autocast that does not need a real one."""

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Autocast as on a GPU; `torch.autocast` does nothing where there is none."""
        before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
        torch.set_autocast_enabled("cuda", self.dtype != torch.float32)
        torch.set_autocast_dtype("cuda", self.dtype)
        torch.autocast_increment_nesting()
        try:
            yield
        finally:
            if torch.autocast_decrement_nesting() == 0:
                torch.clear_autocast_cache()
            torch.set_autocast_enabled("cuda", before[0])
            torch.set_autocast_dtype("cuda", before[1])
