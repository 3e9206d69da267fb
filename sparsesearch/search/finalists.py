"""Which candidates are worth fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparsesearch.search.pareto import Point, hypervolume, pareto_front
from sparsesearch.trial import Trial, TrialState


def choose_finalists(candidates: Sequence[Trial], *, count: int, low_macs: int | None, high_macs: int) -> list[Trial]:
    """The candidates to go on with. Deterministic: ties go to the cheaper, then to the lower trial number.

    Trials that are not complete, have no finite `val_top1`, or cost more than `high_macs` are no candidates, and of
    trials of one model (equal keys) only the best is one.

    For a single budget the finalists are the best by `val_top1`. For a range they are the members of the front, one
    after the other the one that adds most hypervolume to those chosen; when the front is used up, the front of what
    is left follows, and so on.

    Args:
        candidates: Evaluated trials, all of one fidelity.
        count: How many are wanted; fewer come back if there are fewer.
        low_macs: Lower end of the range of budgets in multiply-adds, None for a single budget.
        high_macs: The budget, or the upper end of the range.

    Raises:
        ValueError: The candidates are of several fidelities.
    """
    if len({trial.fidelity for trial in candidates}) > 1:
        raise ValueError("candidates of several fidelities cannot be compared; pass those of one")
    able = [
        trial
        for trial in candidates
        if trial.state is TrialState.COMPLETE
        and trial.cost.macs <= high_macs
        and math.isfinite(trial.metrics.get("val_top1", math.nan))
    ]
    ranked: dict[str, Trial] = {}
    for trial in sorted(able, key=lambda trial: (-_point(trial)[0], trial.cost.macs, trial.number)):
        ranked.setdefault(trial.key, trial)
    if low_macs is None:
        return list(ranked.values())[:count]
    chosen: list[Trial] = []
    left = sorted(ranked.values(), key=lambda trial: trial.number)
    while left and len(chosen) < count:
        front = [left[i] for i in pareto_front([_point(trial) for trial in left])]
        chosen += _most_hypervolume(front, count=count - len(chosen))
        names = {trial.number for trial in front}
        left = [trial for trial in left if trial.number not in names]
    return chosen


def _point(trial: Trial) -> Point:
    return trial.metrics["val_top1"], float(trial.cost.macs)


def _most_hypervolume(front: Sequence[Trial], *, count: int) -> list[Trial]:
    """Greedy choice of members of a front by the hypervolume they add; all of them in that order if `count` allows.

    The reference point lies a tenth of the front's extent outside, so that both ends count.
    """
    points = {trial.number: _point(trial) for trial in front}
    accuracies, macs = zip(*points.values(), strict=True)
    margin = 0.1 * (max(accuracies) - min(accuracies)), 0.1 * (max(macs) - min(macs))
    reference = (min(accuracies) - (margin[0] or 1.0), max(macs) + (margin[1] or 1.0))
    chosen: list[Trial] = []
    left = list(front)
    while left and len(chosen) < count:
        taken = [points[trial.number] for trial in chosen]
        gains = [hypervolume([*taken, points[trial.number]], reference=reference) for trial in left]
        best = max(range(len(left)), key=lambda i: (gains[i], -left[i].cost.macs, -left[i].number))
        chosen.append(left.pop(best))
    return chosen
