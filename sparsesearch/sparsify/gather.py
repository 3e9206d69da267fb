"""Token selection as plain tensor functions: gathering, masked softmax, Gumbel sampling and top-k selection.

Shapes: `B` batch, `H` heads, `N` tokens, `K` kept tokens, `C` channels; a trailing digit is a literal size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsesearch.errors import ShapeError
from sparsesearch.sparsify.draws import Draws

POLICY_SOFTMAX_EPS = 1e-6

MOST_SORTED = 3840
"""The most elements that TensorRT's TopK sorts (NVIDIA/TensorRT issue 4244)."""

_BAND = 0.05  # of all tokens: how far from the last token that is kept one is asked what it is worth

Noise = torch.Generator | Draws
"""Source of random numbers for a batch."""


def gather_tokens(x_BNC: Tensor, keep_BK: Tensor) -> Tensor:
    """Keep the indexed tokens of each sample, in the given order.

    Args:
        x_BNC: Tokens, prefix included if its indices are in `keep_BK`.
        keep_BK: int64 indices into N.

    Returns:
        A `B x K x C` tensor, dtype and device of `x_BNC`.

    Raises:
        ShapeError: Batch sizes differ, or K > N.

    Source: DynamicViT (arXiv:2106.02034), section 3.4, inference-time pruning.
    """
    batch, num_tokens, channels = x_BNC.shape
    if keep_BK.ndim != 2 or keep_BK.shape[0] != batch or keep_BK.shape[1] > num_tokens:
        raise ShapeError(
            f"indices of shape {tuple(keep_BK.shape)} do not fit tokens of shape {tuple(x_BNC.shape)}; "
            f"give {batch} rows of at most {num_tokens} indices"
        )
    # index_select on flattened rows is about three times faster on a CPU than a gather with an expanded index.
    first_B1 = torch.arange(batch, device=keep_BK.device).unsqueeze(1) * num_tokens
    rows = x_BNC.reshape(batch * num_tokens, channels).index_select(0, (keep_BK + first_B1).reshape(-1))
    return rows.reshape(batch, keep_BK.shape[1], channels)


def masked_softmax(logits_BHNN: Tensor, policy_BN: Tensor, *, eps: float = POLICY_SOFTMAX_EPS) -> Tensor:
    """Softmax over keys in which only a dropped token itself attends to it.

    Computed in float32. The maximum includes dropped keys. Each dropped key keeps a weight of `eps / N` before
    normalisation, so that rows always sum to 1; with an all-ones policy, the result equals the ordinary softmax to
    about 5e-7.

    Args:
        logits_BHNN: Attention scores, queries by keys, already scaled.
        policy_BN: 1 for a kept token, 0 for a dropped one; differentiable.
        eps: Total weight distributed over all keys.

    Returns:
        A `B x H x N x N` tensor in the dtype of `logits_BHNN`.

    Raises:
        ShapeError: The policy does not fit the keys.

    Source: DynamicViT (arXiv:2106.02034), section 3.3.
    """
    batch, _, _, num_tokens = logits_BHNN.shape
    if policy_BN.shape != (batch, num_tokens):
        raise ShapeError(
            f"a policy of shape {tuple(policy_BN.shape)} does not fit attention of shape {tuple(logits_BHNN.shape)}; "
            f"give one of shape {(batch, num_tokens)}"
        )
    logits = logits_BHNN.float()
    weight = (logits - logits.max(dim=-1, keepdim=True).values).exp()
    kept_B11N = policy_BN.float().reshape(batch, 1, 1, num_tokens)
    itself_NN = torch.eye(num_tokens, dtype=torch.float32, device=logits.device)
    weight = weight * (kept_B11N + (1.0 - kept_B11N) * itself_NN)
    return ((weight + eps / num_tokens) / (weight.sum(dim=-1, keepdim=True) + eps)).to(logits_BHNN.dtype)


def logistic_noise(shape: tuple[int, ...], *, generator: Noise, device: torch.device) -> Tensor:
    """Standard logistic noise, float32: the difference of two independent Gumbel samples.

    That of a generator is sampled on its device, so that a CPU generator gives the same numbers for a model on any
    device; `Draws` are the same on any device, and computed where they are needed.
    """
    if isinstance(generator, Draws):
        uniform = generator.uniform(shape, device=device)
    else:
        uniform = torch.rand(shape, generator=generator, device=generator.device)
    uniform = uniform.clamp(1e-7, 1.0 - 1e-7)
    return (uniform.log() - torch.log1p(-uniform)).to(device)


def gumbel_keep(scores_BN2: Tensor, *, generator: Noise | None = None, forced_BN: Tensor | None = None) -> Tensor:
    """Sample a 0/1 keep decision for each token, with a straight-through gradient.

    The decision is column 0 of a hard Gumbel-softmax at temperature 1. For two classes, this is a logistic sample on
    the difference of the two log-probabilities.

    Args:
        scores_BN2: Log-probabilities, keep in column 0.
        generator: Source of the noise; required unless `forced_BN` is given.
        forced_BN: A 0/1 decision that replaces the sample; the gradient is then that of the sample without noise.

    Returns:
        A `B x N` float32 tensor of exact zeros and ones.

    Source: DynamicViT (arXiv:2106.02034), section 3.3; Gumbel-softmax (arXiv:1611.01144), section 2.2.
    """
    odds_BN = scores_BN2[..., 0].float() - scores_BN2[..., 1].float()
    if forced_BN is not None:
        if forced_BN.shape != odds_BN.shape:
            raise ShapeError(
                f"a forced decision of shape {tuple(forced_BN.shape)} does not fit scores of {tuple(odds_BN.shape)}"
            )
        soft_BN = odds_BN.sigmoid()
        hard_BN = forced_BN.to(soft_BN)
    else:
        if generator is None:
            raise ValueError("gumbel_keep requires a generator or a forced decision")
        noisy_BN = odds_BN + logistic_noise(tuple(odds_BN.shape), generator=generator, device=odds_BN.device)
        soft_BN = noisy_BN.sigmoid()
        hard_BN = (noisy_BN >= 0).to(soft_BN)
    return hard_BN + (soft_BN - soft_BN.detach())


def keep_count(score_BN: Tensor, count: Tensor, before_BN: Tensor | None = None) -> Tensor:
    """Keep the tokens with the largest scores so that they add up to a count, which may be a fraction.

    The last token that is kept may be kept in part, so that the mass of the decision is the count. Its gradient tells
    what one more token is worth: straight through, it is that of a sigmoid over the ranks, a band around the last token
    that is kept.

    Args:
        score_BN: Scores; the largest are kept.
        count: Number of tokens to keep, a scalar with or without gradient.
        before_BN: An earlier decision, from 0 to 1; nothing that it dropped comes back.

    Returns:
        A `B x N` float32 tensor from 0 to 1, at most `before_BN`.

    Source: learning numbers of tokens by gradients follows DiffRate (arXiv:2305.17997) and LTMP (TMLR 2023);
    the relaxation is our own.
    """
    before_BN = torch.ones_like(score_BN, dtype=torch.float32) if before_BN is None else before_BN
    alive_BN = before_BN.detach()
    order_BN = torch.where(alive_BN > 0.0, score_BN.detach().float(), -torch.inf).argsort(dim=1, descending=True)
    sorted_BN = alive_BN.gather(1, order_BN)
    above_BN = torch.zeros_like(alive_BN).scatter_(1, order_BN, sorted_BN.cumsum(dim=1) - sorted_BN)
    hard_BN = (count.detach() - above_BN).clamp_min(0.0).minimum(alive_BN)
    width = _BAND * score_BN.shape[1]
    soft_BN = before_BN * ((count - above_BN - 0.5 * alive_BN) / width).sigmoid()
    return hard_BN + (soft_BN - soft_BN.detach())


def noisy_scores(score_BN: Tensor, *, scale: float, generator: Noise) -> Tensor:
    """Add logistic noise to scores; at scale 1, on log-odds, the ranking is that of DynamicViT's Gumbel sampling.

    Args:
        score_BN: Scores; the largest are kept.
        scale: Scale of the noise.
        generator: Source of the noise.
    """
    noise_BN = logistic_noise(tuple(score_BN.shape), generator=generator, device=score_BN.device)
    return score_BN.float() + scale * noise_BN


def select_tokens(scores_BN: Tensor, num_kept: int) -> Tensor:
    """Indices of the tokens with the largest scores in each sample, best first.

    Args:
        scores_BN: Scores; the largest are kept.
        num_kept: Tokens to keep per sample, at most N.

    Returns:
        int64 indices into N, `B x num_kept`.

    Source: DynamicViT (arXiv:2106.02034), section 3.4.
    """
    if not 0 <= num_kept <= scores_BN.shape[1]:
        raise ShapeError(f"cannot keep {num_kept} of {scores_BN.shape[1]} tokens")
    score_BN = scores_BN.detach().float()
    if num_kept > MOST_SORTED and torch.compiler.is_exporting():
        return divide_tokens(score_BN, num_kept)[0]
    return score_BN.topk(num_kept, dim=1).indices


def divide_tokens(score_BN: Tensor, num_kept: int) -> tuple[Tensor, Tensor]:
    """Indices of the tokens with the largest scores in each sample, and of all others.

    Args:
        score_BN: float32 scores.
        num_kept: Number of the first, at most N.

    Returns:
        int64 indices into N, `B x num_kept` and `B x (N - num_kept)`: best first, or in order of position in a graph
        that is exported with more tokens than an inference engine sorts.
    """
    num_tokens = score_BN.shape[1]
    if num_tokens > MOST_SORTED and torch.compiler.is_exporting():
        kept_BN = _among_largest(score_BN, num_kept)
        return _indices_of(kept_BN, num_kept), _indices_of(~kept_BN, num_tokens - num_kept)
    order_BN = score_BN.argsort(dim=1, descending=True)
    return order_BN[:, :num_kept], order_BN[:, num_kept:]


def _among_largest(score_BN: Tensor, num_kept: int) -> Tensor:
    """Which tokens are among the largest, by sorting at most `MOST_SORTED` at a time of the smaller side."""
    num_others = score_BN.shape[1] - num_kept
    is_kept_smaller = num_kept <= num_others
    left_BN = score_BN if is_kept_smaller else -score_BN
    found_BN = torch.zeros_like(left_BN, dtype=torch.bool)
    num_left = min(num_kept, num_others)
    while num_left:
        count = min(num_left, MOST_SORTED)
        found_BN = found_BN.scatter(1, left_BN.topk(count, dim=1).indices, True)
        left_BN = left_BN.masked_fill(found_BN, -torch.inf)
        num_left -= count
    return found_BN if is_kept_smaller else ~found_BN


def _indices_of(chosen_BN: Tensor, count: int) -> Tensor:
    """The positions at which a mask is set, in order; `count` in each sample."""
    place_BN = torch.where(chosen_BN, chosen_BN.long().cumsum(dim=1) - 1, count)
    position_BN = torch.arange(chosen_BN.shape[1], device=chosen_BN.device).expand_as(place_BN)
    found = place_BN.new_zeros((chosen_BN.shape[0], count + 1))
    return found.scatter(1, place_BN, position_BN)[:, :count]
