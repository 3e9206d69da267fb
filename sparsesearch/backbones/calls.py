"""Forward passes of a sparse model with options of their own, and their traces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from sparsesearch.backbones.sparsity import sparsity_of
from sparsesearch.sparsify.call import Call
from sparsesearch.sparsify.state import CallOptions
from sparsesearch.sparsify.trace import Trace


def new_call(model: nn.Module, **options: Any) -> Any:
    """Begin a forward pass of a sparse model; run it with `model(images, call=call)`, then read `call.trace`.

    Args:
        model: A sparse model.
        options: Fields of `CallOptions` that differ from the settings of the model, such as the generator.

    Returns:
        The `Call` of the model's family, for one pass.

    Raises:
        BackboneError: The model is not sparse, or the mode does not exist.
    """
    sparsity = sparsity_of(model)
    chosen: CallOptions = replace(sparsity.state.options(), **options)
    return sparsity.begin(training=model.training, options=chosen)


def trace_of(model: nn.Module, images_BCHW: Tensor, **options: Any) -> tuple[Tensor, Trace]:
    """The logits and the trace of one forward pass.

    Args:
        model: A sparse model.
        images_BCHW: Images.
        options: As in `new_call`; the pass is recorded in any case.

    Raises:
        BackboneError: The model is not sparse, or cannot run on the images.
    """
    call: Call = new_call(model, record=True, **options)
    logits: Tensor = model(images_BCHW, call=call)
    return logits, call.trace
