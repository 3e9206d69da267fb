"""Saliency of a trained teacher as a target for predictors: attention of the class token, or gradients without one.

Shapes: `B` batch, `N` patch tokens of a stage, `T` tokens incl. prefix, `C` channels, `K` classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sparsesearch.backbones.attention_parts import is_known_attention
from sparsesearch.backbones.calls import new_call
from sparsesearch.backbones.sparsity import Sparsity
from sparsesearch.backbones.transforms import attach_, family_of, restore_
from sparsesearch.errors import BackboneError
from sparsesearch.sparsify.attention import Captures
from sparsesearch.sparsify.call import Call
from sparsesearch.sparsify.token_call import TokenCall
from sparsesearch.sparsify.trace import Trace


@dataclass(frozen=True, eq=False)
class Reading:
    """Outputs of a dense teacher for a batch, without gradients.

    Attributes:
        logits_BK: Class logits.
        saliency: Importance of each patch token in raster order, by stage: `B x N` float32, non-negative, summing to 1
            over the tokens of each image.
        tokens_BNC: Final patch tokens, if requested; their logits for a model with a token head (LV-ViT).
    """

    logits_BK: Tensor
    saliency: dict[int, Tensor]
    tokens_BNC: Tensor | None = None


def saliency_blocks(depth: int) -> range:
    """The blocks over which saliency is averaged: from 3/8 of the depth to the last."""
    return range(3 * depth // 8, depth)


def read_teacher(model: nn.Module, x_BCHW: Tensor, *, tokens: bool = False) -> Reading:
    """Compute the outputs and the saliency of a dense model in one pass.

    With a class token, saliency is its attention to the patch tokens, averaged over heads and blocks. Without one, it
    is gradient times activation of each token, for the log-probability of the predicted class, averaged over the blocks
    of each stage.

    Args:
        model: A dense model of any family; it runs in its current mode and is not changed.
        x_BCHW: Images.
        tokens: Whether to return the final tokens.

    Raises:
        BackboneError: The model drops tokens.

    Source: EViT (arXiv:2202.07800), section 3.2, for the class token's attention as a measure of importance.
    """
    with _as_sparse(model):
        call = new_call(model, record=False, probe=False, keep_final_tokens=tokens)
        if call.plan.steps:
            raise BackboneError("the teacher drops tokens; set the empty schedule, or call restore_")
        if attends_from_class_token(model):
            return _by_attention(model, x_BCHW, call)
        return _by_gradient(model, x_BCHW, call)


def class_logits(model: Any, x_BCHW: Tensor, **options: Any) -> Tensor:
    """The logits used for distillation: those of the class token alone for a model with a token head.

    Args:
        model: Any model.
        x_BCHW: Images.
        options: Further arguments of the forward pass, such as the call of a sparse model.
    """
    if hasattr(model, "class_logits"):
        of_class: Tensor = model.class_logits(model.forward_features(x_BCHW, **options))
        return of_class
    logits: Tensor = model(x_BCHW, **options)
    return logits


def final_outputs(model: Any, trace: Trace) -> Tensor | None:
    """The final tokens of a pass, or their logits for a model with a token head; None if not kept."""
    final_BNC = trace.final_tokens_BNC
    if final_BNC is None or not hasattr(model, "token_logits"):
        return final_BNC
    logits_BNK: Tensor = model.token_logits(final_BNC)
    return logits_BNK


def attends_from_class_token(model: Any) -> bool:
    """Whether saliency is the attention of a class token, and not from gradients."""
    return getattr(model, "cls_token", None) is not None and all(
        is_known_attention(getattr(block, "attn", None)) for block in model.blocks
    )


@contextmanager
def _as_sparse(model: nn.Module) -> Iterator[None]:
    """Make a dense model sparse for a moment, unless it already is."""
    was_sparse = isinstance(getattr(model, "sparsity", None), Sparsity)
    if not was_sparse:
        attach_(model, [])
    try:
        yield
    finally:
        if not was_sparse:
            restore_(model)


def _by_attention(model: Any, x_BCHW: Tensor, call: TokenCall) -> Reading:
    rows_BN: list[Tensor] = []
    row = Captures(class_row=True)
    call.plan = replace(call.plan, captures=tuple((block, row) for block in saliency_blocks(len(model.blocks))))
    call.listener = lambda notes: rows_BN.append(_present(notes.class_row_BN))
    with torch.no_grad():
        logits = class_logits(model, x_BCHW, call=call)
        mean_BN = torch.stack(rows_BN).mean(dim=0)
        saliency_BN = mean_BN / mean_BN.sum(dim=1, keepdim=True)
        final = final_outputs(model, call.trace)
    return Reading(logits, {0: saliency_BN}, final)


def _by_gradient(model: nn.Module, x_BCHW: Tensor, call: Call) -> Reading:
    family = family_of(model)
    seen: dict[int, list[Tensor]] = {}
    hooks = []

    def watch(stage: int) -> Any:
        def note(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> Any:
            entering = args[0] if args[0].requires_grad else args[0].detach().requires_grad_()
            seen.setdefault(stage, []).append(entering)
            return (entering, *args[1:]), kwargs

        return note

    depths = [stage.depth for stage in family.token_geometry(model).stages]
    try:
        for stage, block in family.blocks(model):
            if block in saliency_blocks(depths[stage]):
                module = family.block(model, stage, block)
                hooks.append(module.register_forward_pre_hook(watch(stage), with_kwargs=True))
        with torch.enable_grad():
            logits = model(x_BCHW, call=call)
            named = logits.float().log_softmax(dim=-1).amax(dim=-1).sum()
            flat = [tensor for tensors in seen.values() for tensor in tensors]
            gradients = iter(torch.autograd.grad(named, flat))
    finally:
        for hook in hooks:
            hook.remove()
    saliency: dict[int, Tensor] = {}
    for stage, tensors in seen.items():
        parts = []
        for tensor in tensors:
            product = (tensor.detach().float(), next(gradients).float())
            part_BN = (family.patches(model, product[0]) * family.patches(model, product[1])).sum(dim=-1).abs()
            parts.append(part_BN / part_BN.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny))
        saliency[stage] = torch.stack(parts).mean(dim=0)
    final = final_outputs(model, call.trace)
    return Reading(logits.detach(), saliency, None if final is None else final.detach())


def _present(row_BN: Tensor | None) -> Tensor:
    assert row_BN is not None
    return row_BN
