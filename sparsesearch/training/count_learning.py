"""Learn by gradients how many tokens to keep where, at exactly a given budget, with all weights of the model frozen.

Shapes: `L` locations, `N` numbers of tokens, `B` batch, `K` classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from sparsesearch.backbones.calls import new_call
from sparsesearch.backbones.sparsity import sparsity_of
from sparsesearch.cost.separable import MACS
from sparsesearch.data.task import Batch
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.shape import Shape
from sparsesearch.study.learned_counts import LearnedCounts, position_of
from sparsesearch.study.protocols import Price
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.distillation import CLASS_WEIGHT, LOGIT_WEIGHT
from sparsesearch.training.loop import NonFiniteLossError
from sparsesearch.training.teacher import Teacher

_BISECTIONS = 40
_LEARNING_RATE, _LAST_LEARNING_RATE = 0.1, 0.01
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_LAST = 3  # the loss is the mean of this part of the steps


class FractionalCounts:
    """Numbers of tokens at a budget, as a differentiable function of the weights of a shape.

    Counts are fractions of tokens; the price between whole ones is linear. The scale of the shape, the one number that
    is left, is solved so that the price is the budget, and its derivative is that of the solution.

    Args:
        geometry: The backbone.
        shape: Locations and methods; its weights do not matter.
        price: The cost function; exact multiply-adds if None.
    """

    def __init__(self, geometry: BackboneGeometry, shape: Shape, *, price: Price | None = None) -> None:
        tables = (price or MACS).tables(geometry, shape.steps)
        total = [geometry.stages[step.stage].num_tokens for step in shape.steps]
        self._base = float(tables.base)
        self._total_L = torch.tensor(total, dtype=torch.float64)
        self._prices_LN = torch.zeros(len(total), max(total) + 2, dtype=torch.float64)
        for row, table in zip(self._prices_LN, tables.tables, strict=True):
            known = torch.from_numpy(np.array(table, dtype=np.float64))
            row[: len(known)], row[len(known) :] = known, known[-1]
        stage_L = torch.tensor([step.stage for step in shape.steps])
        earlier_LL = torch.ones(len(total), len(total)).tril() if shape.monotone else torch.eye(len(total))
        self._earlier_LL = (earlier_LL * (stage_L[:, None] == stage_L)).double()

    def __call__(self, weights_L: Tensor, limit: float) -> Tensor:
        """The number of tokens at each location, float64 with the gradient of the weights.

        Args:
            weights_L: Weights of a shape, as in `Shape`; with gradient.
            limit: The budget in the unit of the price.
        """
        sums_L = self._earlier_LL @ weights_L.double()
        exponents_L = sums_L / sums_L.max()
        fixed_L = exponents_L.detach()
        low, high = 0.0, math.log(2.0 * float(self._total_L.max()))
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            fits = float(self.price(self._counts(fixed_L, middle))) <= limit
            low, high = (low, middle) if fits else (middle, high)
        with torch.enable_grad():
            scale = torch.tensor(high, dtype=torch.float64, requires_grad=True)
            (slope,) = torch.autograd.grad(self.price(self._counts(fixed_L, scale)), scale)
        price = self.price(self._counts(exponents_L, high))
        if slope >= 0.0:  # nothing can be dropped any more
            return self._counts(exponents_L, high)
        return self._counts(exponents_L, high - (price - price.detach()) / slope)

    def price(self, counts_L: Tensor) -> Tensor:
        """The price of fractional counts, a scalar."""
        whole_L = counts_L.detach().floor().long()
        rows_L = torch.arange(len(whole_L))
        below_L, above_L = self._prices_LN[rows_L, whole_L], self._prices_LN[rows_L, whole_L + 1]
        return self._base + (below_L + (above_L - below_L) * (counts_L - whole_L)).sum()

    def _counts(self, exponents_L: Tensor, scale: float | Tensor) -> Tensor:
        return self._total_L * torch.exp(-scale * exponents_L)


def learn_counts(
    model: nn.Module,
    geometry: BackboneGeometry,
    shape: Shape,
    *,
    low: float | None,
    high: float,
    batches: Iterator[Batch],
    num_steps: int,
    teacher: Teacher,
    arithmetic: Arithmetic,
    price: Price | None = None,
    after_step: Callable[[], None] = lambda: None,
) -> LearnedCounts:
    """Learn the weights of a shape for a budget, or for all budgets of a range at once.

    Each step has one budget, from a low-discrepancy sequence over the range. Tokens are kept by the scores of the
    shape's scorers, as many as the weights say, and masked instead of gathered; the gradient of 0.5 cross-entropy +
    0.5 KL to the teacher says what one more token would be worth at each place, and the price what it would cost.

    Args:
        model: A sparse model, set to the locations of the shape; only its mode is changed.
        geometry: Its geometry.
        shape: Locations and methods: pruning, or fast paths.
        low: Lower end of the range of budgets in the unit of the price; None for a single budget.
        high: The budget, or the upper end of the range.
        batches: Training images, at least `num_steps` batches.
        num_steps: Number of steps.
        teacher: Provides targets.
        arithmetic: Device and precision.
        price: The cost function; exact multiply-adds if None.
        after_step: Called after each step.

    Raises:
        NonFiniteLossError: The loss became NaN or infinite.

    Source: learning token counts under a budget follows DiffRate (arXiv:2305.17997, section 3) and LTMP
    (TMLR 2023); the relaxation (`gather.keep_count`) and the exact budget are our own.
    """
    counts = FractionalCounts(geometry, shape, price=price)
    names = [step.name for step in sparsity_of(model).state.plan.steps]
    levels_L, trends_L = torch.zeros(2, len(shape.steps)).unbind()
    levels_L.requires_grad_()
    trends_L.requires_grad_(low is not None)
    learned = [levels_L, trends_L] if low is not None else [levels_L]
    optimizer = torch.optim.Adam(learned, lr=_LEARNING_RATE, betas=(0.9, 0.99))
    losses = []
    model.train().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    for step in range(num_steps):
        limit = high if low is None else low + (_GOLDEN * step + 0.5) % 1.0 * (high - low)
        batch = arithmetic.to_device(next(batches))
        targets = teacher.targets(batch)
        counts_L = counts((levels_L + position_of(limit, low=low, high=high) * trends_L).exp(), limit)
        counts_by_name = dict(zip(names, counts_L.to(batch.images.device, torch.float32).unbind(), strict=True))
        call = new_call(model, mode="masked", record=False, counts=counts_by_name)
        with arithmetic.autocast():
            logits_BK = model(batch.images, call=call).float()
        loss = CLASS_WEIGHT * F.cross_entropy(logits_BK, batch.labels) + LOGIT_WEIGHT * F.kl_div(
            logits_BK.log_softmax(-1), targets.log_probs_BK, log_target=True, reduction="batchmean"
        )
        rate = _LEARNING_RATE + (_LAST_LEARNING_RATE - _LEARNING_RATE) * step / num_steps
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise NonFiniteLossError(f"the loss became {losses[-1]} at step {step} of learning token counts")
        after_step()
    last = losses[-max(1, num_steps // _LAST) :]
    return LearnedCounts(
        blocks=tuple((step.stage, step.block) for step in shape.steps),
        levels=tuple(levels_L.tolist()),
        trends=tuple(trends_L.tolist()),
        loss=sum(last) / len(last),
    )
