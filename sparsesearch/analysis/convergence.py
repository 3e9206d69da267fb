"""Whether it pays to go on searching, judged by what the last evaluations brought."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sparsesearch.analysis.hypervolume_curve import CurvePoint, hypervolume_curves
from sparsesearch.analysis.view import StudyView

LEAST_EVALUATIONS = 8
HARDLY = 0.001
"""A last quarter that adds less than this share of the hypervolume is called hardly worth it."""


class Verdict(StrEnum):
    """What the last quarter of the evaluations says.

    Attributes:
        TOO_EARLY: Nothing yet: there are fewer than `LEAST_EVALUATIONS`.
        NOTHING: It added nothing.
        HARDLY: It added something, but less than `HARDLY`.
        PAYS: It added more.
    """

    TOO_EARLY = "too early"
    NOTHING = "nothing"
    HARDLY = "hardly"
    PAYS = "pays"


@dataclass(frozen=True)
class Convergence:
    """See the module.

    Attributes:
        verdict: In a word.
        evaluations: Searched schedules that the search is judged by.
        last: How many of them are the last quarter.
        gain: What the last quarter added, as a share of the hypervolume that there is now.
        gain_before: What the quarter before it added, as a share of the same.
    """

    verdict: Verdict
    evaluations: int
    last: int
    gain: float
    gain_before: float

    @property
    def sentence(self) -> str:
        """In plain words."""
        if self.verdict is Verdict.TOO_EARLY:
            return (
                f"Too early to say whether going on pays: {self.evaluations} schedules are searched, and "
                f"{LEAST_EVALUATIONS} are the least to judge by."
            )
        what = f"The last quarter of the evaluations ({self.last} of {self.evaluations})"
        before = f"the quarter before it {_percent(self.gain_before)}"
        if self.verdict is Verdict.NOTHING:
            return f"Going on hardly pays: {what[0].lower()}{what[1:]} added nothing to the hypervolume, {before}."
        added = f"added {_percent(self.gain)} to the hypervolume, {before}"
        if self.verdict is Verdict.HARDLY:
            return f"Going on hardly pays: {what[0].lower()}{what[1:]} {added}."
        return f"Going on still pays: {what[0].lower()}{what[1:]} {added}."


def convergence(view: StudyView) -> Convergence:
    """The convergence of the search, at the fidelity at which proposals are evaluated first."""
    curves = hypervolume_curves(view)
    points = curves[0].searched if curves else ()
    count = len(points)
    last = -(-count // 4)
    if count < LEAST_EVALUATIONS or not points[-1].value > 0.0:
        return Convergence(Verdict.TOO_EARLY, count, last, 0.0, 0.0)
    now = points[-1].value
    then, before = _value(points, count - last), _value(points, count - 2 * last)
    gain = (now - then) / now
    verdict = Verdict.PAYS if gain >= HARDLY else Verdict.HARDLY if gain > 0.0 else Verdict.NOTHING
    return Convergence(verdict, count, last, gain, (then - before) / now)


def _percent(share: float) -> str:
    if 0.0 < share < 1e-4:
        return "less than 0.01 %"
    return f"{100 * share:.2f} %" if share else "nothing"


def _value(points: tuple[CurvePoint, ...], count: int) -> float:
    """The hypervolume after the first `count` schedules."""
    return points[count - 1].value if count > 0 else 0.0
