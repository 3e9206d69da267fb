"""The losses that teach a sparse model with a dense teacher, for this package's trainings and for any other loop.

Shapes: `B` batch, `C` channels, `H` and `W` pixels, `K` classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from timm.utils.model import unwrap_model
from torch import Tensor, nn
from torch.nn import functional as F

from sparsesearch.backbones.calls import new_call
from sparsesearch.backbones.saliency import final_outputs, read_teacher
from sparsesearch.backbones.sparsity import sparsity_of
from sparsesearch.errors import BackboneError, ScheduleError
from sparsesearch.sparsify.call import Call
from sparsesearch.sparsify.gather import Noise, gather_tokens
from sparsesearch.sparsify.losses import (
    LossWeights,
    Outputs,
    dynamicvit_loss,
    ratio_loss,
    saliency_loss,
    token_kl,
)
from sparsesearch.sparsify.teaching import tied
from sparsesearch.sparsify.token_trace import TokenTrace
from sparsesearch.sparsify.trace import Trace
from sparsesearch.training.teacher import TeacherTargets

CLASS_WEIGHT = 0.5
LOGIT_WEIGHT = 0.5
SALIENCY_WEIGHT = 0.3
TOKEN_WEIGHT = 0.5
SCORE_NOISE = 0.3
_HIERARCHICAL_RATIO_WEIGHT = 10.0


def distillation_loss(
    model: nn.Module,
    teacher: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    method: Literal["gathered", "masked"] = "gathered",
    generator: Noise | None = None,
) -> Tensor:
    """Run a sparse model in training mode on a batch; return the loss that `sparsesearch retrain` minimises.

        teacher = timm.create_model("deit_small_patch16_224", pretrained=True).eval()
        loss = sparsesearch.distillation_loss(model, teacher, images, labels)
        loss.backward()

    Args:
        model: A sparse model in training mode, wrapped by `DistributedDataParallel` or `torch.compile` or not.
        teacher: The dense model, in evaluation mode; it is not changed and receives no gradient.
        images: `B x C x H x W`, on the device of both models.
        labels: Classes as `B` integers, or `B x K` probabilities (mixup, label smoothing).
        method: `gathered` drops tokens in training, too; `masked` learns how many to keep, with DynamicViT's loss.
        generator: Source of the noise on scores; None for that of the model.

    Returns:
        A scalar, in nats: 0.5 cross-entropy + 0.5 KL(teacher || student) + 0.3 KL(saliency || softmax of scores), or
        DynamicViT's loss (`sparsify.losses.dynamicvit_loss`). Every parameter of the scorers gets a gradient.

    Raises:
        BackboneError: The teacher is in training mode or drops tokens, or the model is not sparse.
        ScheduleError: Masked training does not support the schedule.
    """
    inner: nn.Module = unwrap_model(model)  # type: ignore[no-untyped-call]
    if teacher.training:
        raise BackboneError("the teacher is in training mode, in which its outputs are random; call teacher.eval()")
    is_masked = method == "masked"
    if is_masked:
        check_masked(inner)
    needs_tokens = is_masked or hasattr(inner, "token_logits")
    reading = read_teacher(teacher, images, tokens=needs_tokens)
    targets = TeacherTargets(reading.logits_BK.float().log_softmax(-1), reading.saliency, reading.tokens_BNC)
    options: dict[str, Any] = {"mode": "masked"} if is_masked else {"mode": "gather", "noise": SCORE_NOISE}
    if generator is not None:
        options["generator"] = generator
    call = new_call(inner, record=True, keep_final_tokens=needs_tokens, **options)
    logits = model(images, call=call)
    if is_masked:
        loss = masked_terms(inner, call.trace, logits, final_outputs(inner, call.trace), labels, targets)
    else:
        loss = gathered_terms(inner, call.trace, logits, labels, targets)
    return tied(loss, sparsity_of(inner).parameters())


def keep_ratio_loss(model: nn.Module, call: Call, *, over_batch: bool = False) -> Tensor:
    """DynamicViT's loss on the fraction of tokens that masked training keeps, averaged over the active steps.

    It is added to any loss on the logits of the same call, weighted by 2 for ViTs and 10 for ConvNeXt and Swin:

        call = sparsesearch.new_call(model, mode="masked")
        loss = criterion(model(images, call=call), labels)
        loss = loss + 2 * sparsesearch.keep_ratio_loss(model, call)

    Args:
        model: A sparse model, wrapped or not.
        call: The call that was run, with `mode="masked"`.
        over_batch: Compare the mean over the batch with the target, instead of that of each image.

    Returns:
        A non-negative scalar: squared differences of fractions.

    Raises:
        BackboneError: The call was not run in masked training.

    Source: DynamicViT (arXiv:2106.02034), section 3.4.
    """
    inner: nn.Module = unwrap_model(model)  # type: ignore[no-untyped-call]
    decisions, ratios = _decisions(call.trace), _keep_ratios(inner)
    if len(decisions) != len(ratios):
        raise BackboneError(
            'the call has no keep decisions; run it in training mode with new_call(model, mode="masked", record=True)'
        )
    return ratio_loss(decisions, ratios, over_batch=over_batch) / max(len(ratios), 1)


def gathered_terms(
    model: nn.Module, trace: Trace, logits_BK: Tensor, labels: Tensor, targets: TeacherTargets
) -> Tensor:
    """The loss of gathered training.

    Args:
        model: The sparse model that was run.
        trace: Trace of the pass, recorded; with final tokens for a model with a token head.
        logits_BK: Its logits.
        labels: As for `distillation_loss`.
        targets: The teacher's targets.
    """
    loss = CLASS_WEIGHT * F.cross_entropy(logits_BK.float(), labels)
    loss = loss + LOGIT_WEIGHT * F.kl_div(
        logits_BK.float().log_softmax(-1), targets.log_probs_BK, log_target=True, reduction="batchmean"
    )
    learned = [step for step in trace.steps if step.learned]
    if learned:
        losses = [
            saliency_loss(step.score_BN, targets.saliency[step.stage], positions_BM=step.positions_BN)
            for step in learned
        ]
        loss = loss + SALIENCY_WEIGHT * torch.stack(losses).mean()
    if hasattr(model, "token_logits"):
        assert isinstance(trace, TokenTrace)
        loss = loss + TOKEN_WEIGHT * _token_loss(model, trace, targets)
    return loss


def masked_terms(
    model: nn.Module,
    trace: Trace,
    logits_BK: Tensor,
    tokens_BNC: Tensor | None,
    labels: Tensor,
    targets: TeacherTargets,
    *,
    ratio_weight: float | None = None,
    total: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """DynamicViT's loss of masked training, with the weights of the papers.

    Args:
        model: The sparse model that was run.
        trace: Trace of the pass, recorded.
        logits_BK: Its logits.
        tokens_BNC: Its final tokens, or their logits for a model with a token head.
        labels: As for `distillation_loss`.
        targets: The teacher's targets, with tokens.
        ratio_weight: Weight of the loss on the keep ratio; None for 2, and 10 for ConvNeXt and Swin.
        total: As for `dynamicvit_loss`.
    """
    assert tokens_BNC is not None
    assert targets.tokens_BNC is not None
    decisions, is_grid = _decisions(trace), _is_grid(model)
    token_loss: Literal["mse", "kl"] = "kl" if hasattr(model, "token_logits") and not is_grid else "mse"
    weights = LossWeights(ratio=_HIERARCHICAL_RATIO_WEIGHT if is_grid else 2.0, token_loss=token_loss)
    if ratio_weight is not None:
        weights = replace(weights, ratio=ratio_weight)
    terms = dynamicvit_loss(
        Outputs(logits_BK.float(), tokens_BNC.float()),
        Outputs(targets.log_probs_BK, targets.tokens_BNC.float()),
        cls=F.cross_entropy(logits_BK.float(), labels),
        decisions=decisions,
        keep_ratios=_keep_ratios(model),
        keep_BN=decisions[-1].detach() if decisions and not is_grid else None,
        weights=weights,
        total=total,
    )
    return terms.total


def num_compared(model: nn.Module, trace: Trace) -> Tensor:
    """Number of tokens that masked training compares with the teacher's; 0 if they are all of them.

    Args:
        model: The sparse model that was run.
        trace: Trace of the pass, recorded.
    """
    decisions = _decisions(trace)
    if not decisions or _is_grid(model):
        return torch.zeros((), dtype=torch.int64, device=next(model.parameters()).device)
    return (decisions[-1] > 0.5).sum()


def check_masked(model: nn.Module) -> None:
    """Check that masked training supports the schedule of a model.

    Raises:
        ScheduleError: A step neither prunes nor chooses paths.
    """
    kinds = {step.reducer.kind for step in sparsity_of(model).state.plan.steps} - {"prune", "fast_slow"}
    if kinds:
        raise ScheduleError(f"masked training does not support {' or '.join(sorted(kinds))}; use method: gathered")


def _is_grid(model: nn.Module) -> bool:
    return any(step.reducer.kind == "fast_slow" for step in sparsity_of(model).state.plan.steps)


def _decisions(trace: Trace) -> list[Tensor]:
    return [step.decision_BN for step in trace.steps if step.decision_BN is not None]


def _keep_ratios(model: nn.Module) -> list[float]:
    """The keep ratio of each active step, as written in the schedule."""
    sparsity = sparsity_of(model)
    resolved = sparsity.schedule.resolve(sparsity.geometry)
    active = {(s.stage, s.block, s.phase) for s in resolved if s.num_tokens < s.num_before}
    return [s.keep_ratio for s in sparsity.schedule.steps if (s.stage, s.block, s.phase) in active]


def _token_loss(model: nn.Module, trace: TokenTrace, targets: TeacherTargets) -> Tensor:
    """KL(teacher || student) of the logits of the remaining tokens that have a position."""
    student_BMK = final_outputs(model, trace)
    teacher_BNK = targets.tokens_BNC
    assert student_BMK is not None
    assert teacher_BNK is not None
    positions_BM = trace.positions_BN
    if positions_BM is None:
        return token_kl(student_BMK.float(), teacher_BNK.float())
    return token_kl(
        student_BMK.float(),
        gather_tokens(teacher_BNK, positions_BM.clamp_min(0)).float(),
        keep_BN=(positions_BM >= 0).float(),
    )
