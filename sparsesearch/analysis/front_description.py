"""A front as it is shown: the points, numbers, units and words that its picture, pages and tables have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sparsesearch.analysis.pareto import pareto_front
from sparsesearch.analysis.words import FIDELITY_WORDS, latency_cell, latency_text, of_dense_text
from sparsesearch.study.metric import Metric
from sparsesearch.study.trial import Axis, Fidelity, Origin, Trial
from sparsesearch.text import macs_text, ms_text, percent_text

WORD_COLUMNS = ("origin", "tokens left before block")
"""The last columns of the table of a front; those before contain numbers."""


@dataclass(frozen=True)
class FrontPoint:
    """One trial as it is shown.

    Attributes:
        trial: The trial.
        x: Cost in the unit of the cost axis; NaN if unknown.
        y: The metric in the unit of its axis; NaN if not measured.
        standard_error: Standard error of the metric in the unit of its axis; None if unknown.
        bar: Half the height of its error bar in the unit of its axis; None if unknown; see `FrontDescription.bars`.
        of_dense: Multiply-adds as a fraction of those of the dense model; None without one.
        accuracy: The metric as text, marked if it is not meaningful.
        origin: `search`, `baseline rho at 3,6,9` or `dense model`.
        schedule: `3:137 6:96`, or `all`.
        tokens: The schedule in words.
        within_budget: Whether its cost is within the budget of the study.
        on_front: Whether no candidate dominates it.
        is_best: Whether it is the best one within the budget, by the rule of the study.
    """

    trial: Trial
    x: float
    y: float
    standard_error: float | None
    bar: float | None
    of_dense: float | None
    accuracy: str
    origin: str
    schedule: str
    tokens: str
    within_budget: bool
    on_front: bool
    is_best: bool

    @property
    def is_handcrafted(self) -> bool:
        """Whether it is a hand-crafted baseline."""
        return self.trial.origin is Origin.BASELINE

    @property
    def position(self) -> tuple[float, float]:
        """Its cost and accuracy in the units of the axes."""
        return self.x, self.y

    @property
    def hint(self) -> tuple[str, str]:
        """The lines of its tooltip before the schedule."""
        error = "" if self.standard_error is None else f" (standard error {self.standard_error:.2f})"
        costs = [macs_text(self.trial.cost.macs)]
        costs += [] if self.of_dense is None else [f"{percent_text(self.of_dense, digits=1)} of dense"]
        costs += [text] if (text := latency_text(self.trial)) else []
        return f"trial {self.trial.number}, {self.origin}", f"{self.accuracy}{error} at {', '.join(costs)}"


@dataclass(frozen=True)
class FrontSeries:
    """Points that are drawn alike.

    Attributes:
        kind: What they are.
        name: Entry of the legend.
        points: The points, cheapest first.
        line: The non-dominated ones, to be joined by steps; empty for none.
        index: Position among the series of this kind, to select a symbol.
    """

    kind: Literal["searched", "handcrafted", "front", "best", "dense"]
    name: str
    points: tuple[FrontPoint, ...]
    line: tuple[FrontPoint, ...] = ()
    index: int = 0

    @property
    def barred(self) -> tuple[FrontPoint, ...]:
        """The points that are drawn with error bars: of hand-crafted schedules and of the front."""
        is_drawn = self.kind in ("handcrafted", "front")
        return tuple(point for point in self.points if is_drawn and point.bar)

    @property
    def xs(self) -> list[float]:
        """Positions on the cost axis."""
        return [point.x for point in self.points]

    @property
    def ys(self) -> list[float]:
        """Accuracies in percent."""
        return [point.y for point in self.points]


@dataclass(frozen=True)
class PublishedMark:
    """A published schedule: its cost on the cost axis, accuracy in percent or None, label and tooltip."""

    x: float
    y: float | None
    label: str
    hint: str


@dataclass(frozen=True)
class FrontDescription:
    """A front as it is shown.

    Attributes:
        study: Name of the study.
        title: Title.
        fidelity: Fidelity of the candidates; None if there are none yet.
        axis: Whether costs are multiply-adds or milliseconds.
        x_title: Title of the cost axis, with its unit.
        metric: The metric, on the other axis.
        dense: The dense model; None until it is measured.
        trained_dense: The dense model with the same training as the candidates; None without one.
        points: All candidates, cheapest first.
        front: The non-dominated candidates, cheapest first.
        best: The best candidate within the budget, by the rule of the study, if any.
        why: Why it is the best, as words.
        bars: What error bars show, as words; empty if there are none.
        limit: The budget in the unit of the cost axis; None if it is in another unit or not yet known.
        warnings: Warnings to show next to every accuracy.
        paper_name: Legend entry of published schedules; None without them.
        paper: Published schedules, cheapest first.
        caveat: Why their accuracies are not comparable; empty if they are.
    """

    study: str
    title: str
    fidelity: Fidelity | None
    axis: Axis
    x_title: str
    metric: Metric
    dense: FrontPoint | None
    trained_dense: FrontPoint | None
    points: tuple[FrontPoint, ...]
    front: tuple[FrontPoint, ...]
    best: FrontPoint | None
    why: str
    bars: str
    limit: float | None
    warnings: tuple[str, ...]
    paper_name: str | None = None
    paper: tuple[PublishedMark, ...] = ()
    caveat: str = ""

    @property
    def subtitle(self) -> str:
        """How the candidates were evaluated, as a sentence."""
        return (
            "No schedule has been evaluated yet."
            if self.fidelity is None
            else f"Schedules {FIDELITY_WORDS[self.fidelity]}."
        )

    @property
    def summary(self) -> str:
        """The best result as a sentence."""
        best, dense = self.best, self.dense
        if best is None or dense is None:
            return self.subtitle if self.fidelity is None else "Nothing is within the budget yet."
        again = "" if self.trained_dense is None else f", {self.trained_dense.accuracy} with the same training"
        return (
            f"Best within the budget: {best.accuracy} {self.metric.words} at {macs_text(best.trial.cost.macs)}, "
            f"{of_dense_text(best.trial.cost.macs, dense.trial.cost.macs)} of the dense model ({dense.accuracy} at "
            f"{macs_text(dense.trial.cost.macs)}{again}); {self.why}."
        )

    @property
    def dense_text(self) -> str:
        """Label of the dense model: `dense model: 79.70 % at 4.608 GMACs`."""
        assert self.dense is not None, "there is a label only with a dense model"
        is_ms = self.axis == "ms" and math.isfinite(self.dense.x)
        cost = ms_text(self.dense.x) if is_ms else macs_text(self.dense.trial.cost.macs)
        again = "" if self.trained_dense is None else f" ({self.trained_dense.accuracy} with the same training)"
        return f"dense model: {self.dense.accuracy}{again} at {cost}"

    @property
    def series(self) -> tuple[FrontSeries, ...]:
        """Everything to draw, in drawing order."""
        searched = tuple(point for point in self.points if not point.is_handcrafted)
        sign = 1.0 if self.metric.higher_is_better else -1.0
        found = [FrontSeries("searched", "searched", searched)]
        for index, label in enumerate(sorted({point.trial.label for point in self.points if point.is_handcrafted})):
            own = tuple(point for point in self.points if point.is_handcrafted and point.trial.label == label)
            line = tuple(own[i] for i in pareto_front([(sign * point.y, point.x) for point in own]))
            found.append(FrontSeries("handcrafted", f"hand-crafted: {label}", own, line, index))
        found.append(FrontSeries("front", "Pareto front", self.front, self.front))
        if self.best is not None:
            found.append(FrontSeries("best", "best within the budget", (self.best,)))
        if self.dense is not None and math.isfinite(self.dense.x):
            found.append(FrontSeries("dense", "dense model", (self.dense,)))
        return tuple(found)

    @property
    def rows(self) -> tuple[FrontPoint, ...]:
        """The rows of the table: the dense model, then the front, cheapest first."""
        return (*(point for point in (self.dense, self.trained_dense) if point is not None), *self.front)

    @property
    def head(self) -> tuple[str, ...]:
        """The columns of the table, those with numbers first; the milliseconds are left out if none are known."""
        ms, error = ("ms",) if self._has_ms else (), ("std. error",) if self.bars else ()
        return ("trial", "cost", "of dense", *ms, self.metric.short, *error, *WORD_COLUMNS)

    def cells(self, point: FrontPoint) -> tuple[str, ...]:
        """One row of the table."""
        return (
            str(point.trial.number),
            macs_text(point.trial.cost.macs),
            "" if point.of_dense is None else percent_text(point.of_dense, digits=1),
            *((latency_cell(point.trial),) if self._has_ms else ()),
            point.accuracy,
            *((f"{point.bar:.2f}" if point.bar else "",) if self.bars else ()),
            point.origin,
            point.schedule,
        )

    @property
    def _has_ms(self) -> bool:
        return any(point.trial.cost.ms is not None for point in self.front)
