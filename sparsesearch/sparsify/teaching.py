"""What teaches learned scorers in a training loop that knows nothing of them: the saliency of tokens for its loss.

A selection has no gradient. In the backward pass of any loss on the logits, the saliency of each token that was kept is
gradient times activation; the gradient of KL(saliency || softmax of scores) is added to that of the scores. The forward
pass is unchanged, and nothing is computed twice.

Shapes: `B` batch, `K` kept tokens, `C` channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _Taught(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, score_BK: Tensor, first: int) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.first = inputs[2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, score_BK = ctx.saved_tensors
        kept = slice(ctx.first, ctx.first + score_BK.shape[1])
        saliency_BK = (gradient.float() * x.float()).sum(dim=-1).flatten(1)[:, kept].abs()
        total_B1 = saliency_BK.sum(dim=1, keepdim=True)
        target_BK = saliency_BK / total_B1.clamp_min(torch.finfo(torch.float32).tiny)
        error_BK = torch.where(total_B1 > 0, score_BK.float().softmax(dim=1) - target_BK, 0.0)
        weight = total_B1.sum() / max(len(total_B1), 1)  # the scale of the loss, which may be scaled or accumulated
        return gradient, (weight * error_BK).to(score_BK.dtype), None


def taught(x: Tensor, score_BK: Tensor, *, first: int = 0) -> Tensor:
    """The same tokens; in the backward pass, their saliency for the loss teaches the scores.

    Saliency sums to 1 over the kept tokens of an image, all images count alike, and the whole is weighted by the mean
    saliency of an image, so that it scales with the loss. An image without saliency teaches nothing.

    Args:
        x: Tokens, `B x T x C`, or a feature map, `B x H x W x C`.
        score_BK: Scores of the kept ones: log-odds to be kept.
        first: Index of the first of them among the tokens.
    """
    if not score_BK.requires_grad:
        return x
    found: Tensor = _Taught.apply(x, score_BK, first)
    return found


def tied(x: Tensor, parameters: Iterable[nn.Parameter]) -> Tensor:
    """The same values, with a gradient of zero for parameters that take no part in them.

    `DistributedDataParallel` waits for the gradient of every parameter.

    Args:
        x: Any tensor.
        parameters: The parameters; those that take part keep their gradient.
    """
    nothing = [parameter.flatten()[:0].to(x.dtype) for parameter in parameters if parameter.requires_grad]
    return x + torch.cat(nothing).sum() if nothing else x
