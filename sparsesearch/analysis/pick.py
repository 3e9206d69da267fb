"""Pick the best schedule of a front: cost and accuracy are traded off by a rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from sparsesearch.analysis.pairs import PairedDifference
from sparsesearch.analysis.study_front import StudyFront, cost_along
from sparsesearch.study.spec import PickName
from sparsesearch.study.trial import Trial

Difference = Callable[[Trial, Trial], PairedDifference | None]
"""By how much the first trial is more accurate than the second on the same images; None if that is not known."""

_EQUAL_COST = 0.01  # costs that differ by so much of the dense cost count as equal


def pick(front: StudyFront, *, limit: float, rule: PickName, difference: Difference) -> Trial | None:
    """Pick a trial of a front within a budget; None if none is within it.

    Args:
        front: The front.
        limit: The budget, in the unit of the front's axis.
        rule: `accuracy`: the most accurate one. `one-se`: the cheapest that is not worse than this by more than one
            standard error of the difference on the same images; of those that cost the same within 1 % of the dense
            model, the most accurate (the one-standard-error rule of Breiman et al., 1984). `knee`: the one that is
            farthest above the straight line from the cheapest to the most accurate.
        difference: Compares two trials on the same images.
    """
    accurate = front.best(limit=limit)
    if accurate is None or rule == "accuracy":
        return accurate
    points = [(trial, cost_along(trial, front.axis), front.metric.score(trial.metrics)) for trial in front.points]
    able = [point for point in points if point[1] <= cost_along(accurate, front.axis)]
    if rule == "knee":
        return _knee(able)
    good = [point for point in able if _is_within_error(point[0], accurate, front, difference)]
    dense = math.inf if front.reference is None else cost_along(front.reference, front.axis)
    step = _EQUAL_COST * dense if math.isfinite(dense) else 0.0
    cheapest = min(cost for _, cost, _ in good)
    equal = [point for point in good if point[1] <= cheapest + step]
    return max(equal, key=lambda point: (point[2], -point[1]))[0]


def _is_within_error(trial: Trial, accurate: Trial, front: StudyFront, difference: Difference) -> bool:
    if trial.number == accurate.number:
        return True
    paired = difference(trial, accurate)
    if paired is not None:
        return -paired.value <= paired.standard_error
    error = front.metric.standard_error(accurate.metrics)
    gap = front.metric.score(accurate.metrics) - front.metric.score(trial.metrics)
    return error is not None and gap <= error


def _knee(points: Sequence[tuple[Trial, float, float]]) -> Trial:
    """The trial farthest above the line between the ends of a front: trials, costs and scores, cheapest first."""
    (_, first_cost, first_score), (last, last_cost, last_score) = points[0], points[-1]
    width, height = last_cost - first_cost, last_score - first_score
    if width <= 0.0 or height <= 0.0:
        return last
    above = [(score - first_score) / height - (cost - first_cost) / width for _, cost, score in points]
    return points[max(range(len(points)), key=lambda i: (above[i], -i))][0]
