"""Which trials of a large study are shown: all that anything depends on, and of the other evaluations a part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from sparsesearch.analysis.pareto import pareto_front
from sparsesearch.analysis.study_front import BEST_FIRST
from sparsesearch.study.digest import TrialRow
from sparsesearch.study.trial import Axis, Origin, TrialState


def shown_numbers(rows: Sequence[TrialRow], *, most: int) -> set[int]:
    """Numbers of the trials to show.

    Shown are trainings, what a training was chosen from, hand-crafted schedules, trials under way, and all that are on
    a front; the other evaluations are evenly spread over the study, until there are so many in all.

    Args:
        rows: All trials of the study.
        most: How many trials are shown, if not more of them must be.
    """
    shown = {row.number for row in rows if _is_shown(row)}
    for fidelity in BEST_FIRST:
        for axis in get_args(Axis):
            shown.update(_on_front([row for row in rows if row.fidelity is fidelity], axis))
    shown.update(row.parent for row in rows if row.number in shown and row.parent is not None)
    rest = [row.number for row in rows if row.number not in shown]
    count = min(len(rest), max(0, most - len(shown)))
    return shown | {rest[i * len(rest) // count] for i in range(count)}


def _is_shown(row: TrialRow) -> bool:
    return row.fidelity.is_training or row.origin is not Origin.SEARCH or not row.state.is_final


def _on_front(rows: Sequence[TrialRow], axis: Axis) -> Iterator[int]:
    found = [(row, row.score) for row in rows if row.score is not None and row.state is TrialState.COMPLETE]
    for index in pareto_front([(score, row.cost_along(axis)) for row, score in found]):
        yield found[index][0].number
