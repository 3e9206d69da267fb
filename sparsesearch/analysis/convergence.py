"""Convergence of a search: how much its last evaluations added to the hypervolume."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sparsesearch.analysis.hypervolume_curve import CurvePoint, hypervolume_curves
from sparsesearch.analysis.view import StudyView

MIN_EVALUATIONS = 8
MIN_GAIN = 0.001
"""The search counts as converged if the last quarter adds less than this fraction of the hypervolume."""


class Verdict(StrEnum):
    """How much the last quarter of the evaluations added to the hypervolume.

    Attributes:
        TOO_EARLY: Unknown: there are fewer than `MIN_EVALUATIONS`.
        NO_GAIN: Nothing.
        SMALL_GAIN: Less than `MIN_GAIN`.
        IMPROVING: At least `MIN_GAIN`.
    """

    TOO_EARLY = "too early"
    NO_GAIN = "no gain"
    SMALL_GAIN = "small gain"
    IMPROVING = "improving"


@dataclass(frozen=True)
class Convergence:
    """The convergence of a search.

    Attributes:
        verdict: The conclusion.
        evaluations: Number of searched schedules that it is based on.
        last: How many of them form the last quarter.
        gain: What the last quarter added, as a fraction of the current hypervolume.
        gain_before: What the quarter before it added, as a fraction of the current hypervolume.
    """

    verdict: Verdict
    evaluations: int
    last: int
    gain: float
    gain_before: float

    @property
    def sentence(self) -> str:
        """The conclusion as one sentence."""
        if self.verdict is Verdict.TOO_EARLY:
            return (
                f"Too early to judge convergence: {self.evaluations} schedules have been evaluated, and at least "
                f"{MIN_EVALUATIONS} are needed."
            )
        likely = "likely" if self.verdict is Verdict.IMPROVING else "unlikely"
        return (
            f"More evaluations are {likely} to help: the last quarter ({self.last} of {self.evaluations}) added "
            f"{_percent(self.gain)} to the hypervolume, the quarter before it {_percent(self.gain_before)}."
        )


def convergence(view: StudyView) -> Convergence:
    """The convergence of the search at the fidelity at which proposals are evaluated first."""
    curves = hypervolume_curves(view)
    points = curves[0].searched if curves else ()
    count = len(points)
    last = -(-count // 4)
    if count < MIN_EVALUATIONS or not points[-1].value > 0.0:
        return Convergence(Verdict.TOO_EARLY, count, last, 0.0, 0.0)
    now = points[-1].value
    then, before = _value(points, count - last), _value(points, count - 2 * last)
    gain = (now - then) / now
    verdict = Verdict.IMPROVING if gain >= MIN_GAIN else Verdict.SMALL_GAIN if gain > 0.0 else Verdict.NO_GAIN
    return Convergence(verdict, count, last, gain, (then - before) / now)


def _percent(fraction: float) -> str:
    if 0.0 < fraction < 1e-4:
        return "less than 0.01 %"
    return f"{100 * fraction:.2f} %" if fraction else "nothing"


def _value(points: tuple[CurvePoint, ...], count: int) -> float:
    """The hypervolume after the first `count` schedules."""
    return points[count - 1].value if count > 0 else 0.0
