"""Multiply-adds counted operation by operation, to verify the closed-form cost.

Matrix products, convolutions and attention are counted; normalisation and elementwise operations are not. One
multiply-add counts as one.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_flop_count

from sparsesearch.errors import BackboneError

_MATRIX_WORDS = ("mm", "matmul", "bmm", "conv", "attention", "linear", "einsum", "dot", "mv")
_FVCORE_MATRIX_ROWS = {"conv", "linear", "matmul", "addmm", "bmm", "mm", "einsum"}


def _attention_flops(query_shape: Any, key_shape: Any, value_shape: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query_shape, key_shape, value_shape))  # type: ignore[no-untyped-call]


_ATTENTION_ON_CPU = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_OWN_RULES: dict[Any, Any] = {}
if _ATTENTION_ON_CPU not in flop_registry:  # before torch 2.15, which counts fused attention on a GPU only
    _OWN_RULES[_ATTENTION_ON_CPU] = _attention_flops


class _UncountedProducts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records matrix-like operations for which the counter has no rule."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        words = str(packet).split(".")[-1].split("_")
        is_counted = packet in flop_registry or packet in _OWN_RULES
        if not is_counted and any(word in _MATRIX_WORDS for word in words):
            self.names.add(str(packet))
        return func(*args, **(kwargs or {}))


def traced_macs(model: nn.Module, image_BCHW: Tensor) -> int:
    """Multiply-adds of one forward pass at inference: half of the FLOPs of torch's `FlopCounterMode`.

    The model runs in evaluation mode and is restored afterwards. Works on the meta device.

    Args:
        model: Any model.
        image_BCHW: Input of the model; use a batch of one for the cost of one image.

    Raises:
        BackboneError: The model is in masked training mode, where no token is dropped, or runs a matrix product for
            which the counter has no rule.
    """
    _refuse_masked(model)
    uncounted = _UncountedProducts()
    counter = FlopCounterMode(display=False, custom_mapping=_OWN_RULES)
    with _evaluating(model), torch.no_grad(), counter, uncounted:
        model(image_BCHW)
    if uncounted.names:
        raise BackboneError(
            f"the counter has no rule for {', '.join(sorted(uncounted.names))}; the count would be too low"
        )
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return int(flops // 2)


def fvcore_macs(model: nn.Module, image_BCHW: Tensor) -> int:
    """The same count by fvcore, which many papers use: without fused attention, and without normalisation.

    Args:
        model: Any model, not on the meta device.
        image_BCHW: A batch of one.

    Raises:
        BackboneError: As in `traced_macs`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # fvcore scripts functions when it is imported
        from fvcore.nn import FlopCountAnalysis

    _refuse_masked(model)
    unfused = copy.deepcopy(model).eval()
    fused: list[Any] = [module for module in unfused.modules() if hasattr(module, "fused_attn")]
    for module in fused:
        module.fused_attn = False
    analysis = FlopCountAnalysis(unfused, image_BCHW)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    rows = analysis.by_operator()
    skipped = [
        name for name in analysis.unsupported_ops() if any(w in _MATRIX_WORDS for w in name.split("::")[1].split("_"))
    ]
    if skipped:
        raise BackboneError(f"fvcore has no rule for {', '.join(sorted(skipped))}; the count would be too low")
    return int(sum(count for name, count in rows.items() if name in _FVCORE_MATRIX_ROWS))


def _refuse_masked(model: nn.Module) -> None:
    state = getattr(getattr(model, "sparsity", None), "state", None)
    if model.training and getattr(state, "mode", None) == "masked":
        raise BackboneError(
            "masked training drops no tokens, so its count would be that of the dense model; call model.eval() first"
        )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Temporarily switch to evaluation mode without gradients; modules and parameters are restored afterwards.

    The counter adds hooks to the backward pass of everything that requires a gradient, even if gradients are disabled.
    """
    was_training = {module: module.training for module in model.modules()}
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
        for module, training in was_training.items():
            module.training = training
