"""Training losses of sparse models. No gradient flows into the teacher.

Shapes: `B` batch, `N` tokens without prefix tokens, `M` remaining tokens, `C` channels, `K` classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from sparsesearch.errors import ShapeError


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of DynamicViT's loss.

    Attributes:
        cls: Weight of the classification loss.
        ratio: Weight of the keep-ratio term: 2 for ViTs (5 in the recipe of DeiT-B), 10 for ConvNeXt and Swin.
        class_kl: Weight of the distillation of class logits.
        token: Weight of the distillation of tokens.
        ratio_divisor: Divisor of the sum over predictors; None for their number. The published code always uses 3.
        ratio_over_batch: Compare the mean over the whole batch with the target, instead of that of each image.
        token_loss: `mse` for features, `kl` for auxiliary logits (LV-ViT).
    """

    cls: float = 1.0
    ratio: float = 2.0
    class_kl: float = 0.5
    token: float = 0.5
    ratio_divisor: int | None = None
    ratio_over_batch: bool = False
    token_loss: Literal["mse", "kl"] = "mse"


@dataclass(frozen=True, eq=False)
class Outputs:
    """Outputs of a student or a teacher that are compared.

    Attributes:
        logits_BK: Class logits.
        tokens_BNC: Final tokens, or auxiliary logits of each token.
    """

    logits_BK: Tensor
    tokens_BNC: Tensor


@dataclass(frozen=True, eq=False)
class LossTerms:
    """The loss and its terms before weighting.

    Attributes:
        total: Weighted sum of the terms.
        cls: Classification loss.
        ratio_sum: Keep-ratio term, summed over predictors and not yet divided.
        class_kl: Distillation of class logits.
        token: Distillation of tokens.
    """

    total: Tensor
    cls: Tensor
    ratio_sum: Tensor
    class_kl: Tensor
    token: Tensor


def dynamicvit_loss(
    student: Outputs,
    teacher: Outputs,
    *,
    cls: Tensor,
    decisions: Sequence[Tensor],
    keep_ratios: Sequence[float],
    keep_BN: Tensor | None,
    weights: LossWeights | None = None,
    total: Callable[[Tensor], Tensor] | None = None,
) -> LossTerms:
    """The loss of masked training: classification, keep ratio, and distillation from the teacher.

    Args:
        student: Outputs of the sparse model.
        teacher: Outputs of the dense model; same shapes.
        cls: Classification loss of the student, a scalar.
        decisions: Cumulative keep decisions, one tensor per predictor, batch first.
        keep_ratios: Target fraction of the initial tokens, one per predictor.
        keep_BN: Tokens compared by the token term (above 0.5); None for all.
        weights: Weights of the terms; None for DynamicViT's values for ViTs.
        total: Maps the number of compared tokens to the one that the sum over them is divided by, where the batch is a
            part of a step; None for the number itself.

    Source: DynamicViT (arXiv:2106.02034), section 3.4; Dynamic Spatial Sparsification (arXiv:2207.01580).
    """
    weights = weights or LossWeights()
    ratio = ratio_loss(decisions, keep_ratios, over_batch=weights.ratio_over_batch)
    class_term = class_kl(student.logits_BK, teacher.logits_BK)
    compare = token_mse if weights.token_loss == "mse" else token_kl
    count = None if total is None or keep_BN is None else total((keep_BN > 0.5).sum())
    token = compare(student.tokens_BNC, teacher.tokens_BNC, keep_BN=keep_BN, count=count)
    divisor = len(decisions) if weights.ratio_divisor is None else weights.ratio_divisor
    loss = (
        weights.cls * cls
        + weights.ratio * ratio / max(divisor, 1)
        + weights.class_kl * class_term
        + weights.token * token
    )
    return LossTerms(total=loss, cls=cls, ratio_sum=ratio, class_kl=class_term, token=token)


def soft_target_cross_entropy(logits_BK: Tensor, target_BK: Tensor) -> Tensor:
    """Cross-entropy against a distribution over classes, mean over the batch.

    Args:
        logits_BK: Class logits.
        target_BK: Probabilities, such as those of mixup and label smoothing.
    """
    return -(target_BK * logits_BK.log_softmax(dim=-1)).sum(dim=-1).mean()


def ratio_loss(decisions: Sequence[Tensor], keep_ratios: Sequence[float], *, over_batch: bool = False) -> Tensor:
    """Squared difference between actual and target keep ratio, summed over predictors.

    Args:
        decisions: Cumulative keep decisions, one tensor per predictor, batch first; the other axes are positions.
        keep_ratios: Target fraction of the initial tokens, one per predictor.
        over_batch: Compare the mean over the batch instead of that of each image.

    Raises:
        ShapeError: The numbers of ratios and decisions differ.

    Source: DynamicViT (arXiv:2106.02034), section 3.4.
    """
    if len(decisions) != len(keep_ratios):
        raise ShapeError(f"{len(decisions)} decisions but {len(keep_ratios)} keep ratios; give one ratio per decision")
    if not decisions:
        return torch.zeros(())
    terms = []
    for decision, requested in zip(decisions, keep_ratios, strict=True):
        kept_B = decision.flatten(1).mean(dim=1)
        kept = kept_B.mean() if over_batch else kept_B
        terms.append(((kept - requested) ** 2).mean())
    return torch.stack(terms).sum()


def class_kl(student_BK: Tensor, teacher_BK: Tensor) -> Tensor:
    """KL(teacher || student) of class distributions, mean over the batch.

    Args:
        student_BK: Class logits.
        teacher_BK: Class logits.

    Source: DynamicViT (arXiv:2106.02034), section 3.4.
    """
    return functional.kl_div(
        student_BK.log_softmax(dim=-1),
        teacher_BK.detach().log_softmax(dim=-1),
        reduction="batchmean",
        log_target=True,
    )


def token_mse(
    student_BNC: Tensor, teacher_BNC: Tensor, *, keep_BN: Tensor | None = None, count: Tensor | None = None
) -> Tensor:
    """Mean squared error over kept tokens and channels of the whole batch.

    Args:
        student_BNC: Tokens; any number of position axes if all tokens are compared.
        teacher_BNC: Same shape.
        keep_BN: Above 0.5 for tokens to compare; None for all.
        count: What the sum over kept tokens is divided by; None for their number.

    Returns:
        A scalar; 0 if no token is kept in the whole batch.

    Source: DynamicViT (arXiv:2106.02034), section 3.4.
    """
    _check_alike(student_BNC, teacher_BNC)
    if keep_BN is None:
        return functional.mse_loss(student_BNC, teacher_BNC.detach())
    return _mean_of_kept((student_BNC - teacher_BNC.detach()).square().mean(dim=-1), keep_BN, count)


def token_kl(
    student_BNC: Tensor, teacher_BNC: Tensor, *, keep_BN: Tensor | None = None, count: Tensor | None = None
) -> Tensor:
    """KL(teacher || student) of the auxiliary logits of kept tokens, mean over those tokens.

    Args:
        student_BNC: Logits of each token.
        teacher_BNC: Same shape.
        keep_BN: Above 0.5 for tokens to compare; None for all.
        count: As in `token_mse`.

    Returns:
        A scalar; 0 if no token is kept in the whole batch.

    Source: DynamicViT (arXiv:2106.02034), section 3.4, for LV-ViT.
    """
    _check_alike(student_BNC, teacher_BNC)
    if keep_BN is None:
        return class_kl(student_BNC.flatten(0, -2), teacher_BNC.flatten(0, -2))
    log_student, log_teacher = student_BNC.log_softmax(dim=-1), teacher_BNC.detach().log_softmax(dim=-1)
    kl_BN = functional.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=-1)
    return _mean_of_kept(kl_BN, keep_BN, count)


def saliency_loss(score_BM: Tensor, saliency_BN: Tensor, *, positions_BM: Tensor | None = None) -> Tensor:
    """KL(saliency || softmax of scores) over the remaining tokens, mean over the batch.

    It trains a predictor to rank tokens like the teacher's attention, without a gradient through the selection.

    Args:
        score_BM: Scores of the remaining tokens.
        saliency_BN: The teacher's saliency of all initial tokens, non-negative.
        positions_BM: Raster index of each remaining token, -1 for a fused one, which has no saliency; None if all
            tokens remain in raster order.

    Returns:
        A non-negative scalar. If the remaining tokens of an image have no saliency, the target is uniform.
    """
    alive_BM = saliency_BN
    if positions_BM is not None:
        alive_BM = saliency_BN.gather(1, positions_BM.clamp_min(0)) * (positions_BM >= 0)
    if alive_BM.shape != score_BM.shape:
        raise ShapeError(
            f"saliency of shape {tuple(alive_BM.shape)} does not fit scores of shape {tuple(score_BM.shape)}"
        )
    target_BM = alive_BM.detach().float() + torch.finfo(torch.float32).tiny
    target_BM = target_BM / target_BM.sum(dim=1, keepdim=True)
    return functional.kl_div(score_BM.float().log_softmax(dim=1), target_BM, reduction="batchmean")


def _check_alike(student_BNC: Tensor, teacher_BNC: Tensor) -> None:
    if student_BNC.shape != teacher_BNC.shape:
        raise ShapeError(
            f"student tokens of shape {tuple(student_BNC.shape)} do not match teacher tokens of shape "
            f"{tuple(teacher_BNC.shape)}"
        )


def _mean_of_kept(values_BN: Tensor, keep_BN: Tensor, count: Tensor | None) -> Tensor:
    """Mean over the kept tokens, without waiting for the device to know how many they are."""
    kept_BN = keep_BN.reshape(values_BN.shape) > 0.5
    total = torch.where(kept_BN, values_BN, 0.0).sum()
    return total / (kept_BN.sum().clamp_min(1) if count is None else count.clamp_min(1e-12))
