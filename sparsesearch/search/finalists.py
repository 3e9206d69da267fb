"""Which candidates are worth fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparsesearch.search.results import cost_along
from sparsesearch.trial import Axis, Trial, TrialState


def choose_finalists(
    candidates: Sequence[Trial], *, count: int, low: float | None, high: float, axis: Axis = "macs"
) -> list[Trial]:
    """The candidates to go on with. Deterministic: ties go to the cheaper, then to the lower trial number.

    Trials that are not complete, have no finite `val_top1`, or cost more than `high` are no candidates, and of
    trials of one model (equal keys) only the best is one.

    For a single budget the finalists are the best by `val_top1`. For a range they are the best within each of `count`
    budgets evenly spaced over it, no trial twice, the dearest first; if that leaves places, the best of the rest.

    Args:
        candidates: Evaluated trials, all of one fidelity.
        count: How many are wanted; fewer come back if there are fewer.
        low: Lower end of the range of budgets, None for a single budget.
        high: The budget, or the upper end of the range.
        axis: What budgets and costs are counted in.

    Raises:
        ValueError: The candidates are of several fidelities.
    """
    if len({trial.fidelity for trial in candidates}) > 1:
        raise ValueError("candidates of several fidelities cannot be compared; pass those of one")
    able = [
        trial
        for trial in candidates
        if trial.state is TrialState.COMPLETE
        and cost_along(trial, axis) <= high
        and math.isfinite(trial.metrics.get("val_top1", math.nan))
    ]
    ranked: dict[str, Trial] = {}
    for trial in sorted(able, key=lambda t: (-t.metrics["val_top1"], cost_along(t, axis), t.number)):
        ranked.setdefault(trial.key, trial)
    if low is None:
        return list(ranked.values())[:count]
    spacing = (high - low) / max(1, count - 1)
    left = list(ranked.values())
    chosen: list[Trial] = []
    for i in range(count):
        within = next((trial for trial in left if cost_along(trial, axis) <= low + i * spacing), None)
        if within is not None:
            chosen.insert(0, within)
            left.remove(within)
    return chosen + left[: count - len(chosen)]
