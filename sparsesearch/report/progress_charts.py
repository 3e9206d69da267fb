"""Progress of a study: hypervolume and regret over evaluations and over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sparsesearch.analysis.findings import Findings
from sparsesearch.analysis.hypervolume_curve import CurvePoint, HypervolumeCurve
from sparsesearch.analysis.regret import RegretPoint
from sparsesearch.report.chart import HALF, Chart, legend, responsive
from sparsesearch.study.trial import Fidelity

_NAMES = {
    Fidelity.UNTRAINED: "evaluated with the dense weights",
    Fidelity.SUPERNET: "evaluated with shared weights",
    Fidelity.RESCORED: "evaluated on other images",
    Fidelity.FINETUNE: "fine-tuned",
}
_SHOWN_ABOVE = 0.975
Abscissa = Callable[[CurvePoint | RegretPoint], float]


def hypervolume_charts(found: Findings) -> str:
    """Hypervolume over evaluations and over time, one line per fidelity: the two are not comparable."""

    def drawn(x_of: Abscissa, x_title: str) -> str:
        def draw(width: int) -> str:
            points = [point for curve in found.curves for point in curve.points]
            baselines = [curve.baseline for curve in found.curves if curve.baseline is not None]
            values = [value for curve in found.curves for value in _final_part(curve)]
            values += [curve.at_budgets[-1].value for curve in found.curves if curve.at_budgets]
            xs, label = [x_of(point) for point in points], f"hypervolume over {x_title}"
            chart = Chart.over(xs, [*values, *baselines], width=width, height=260, label=label)
            chart.axes(x_title, "hypervolume, %")
            for index, curve in enumerate(found.curves):
                steps = [(x_of(point), point.value) for point in curve.points]
                steps = [(x, y) for x, y in steps if y >= chart.y.low]
                chart.curve(steps, "search", steps=True)
                chart.marks(steps[-1:], "search", size=4.0, hints=[f"{_NAMES[curve.fidelity]}: {steps[-1][1]:.3f} %"])
                thin = [(x_of(point), point.value) for point in curve.at_budgets if point.value >= chart.y.low]
                last = [(x_of(curve.points[-1]), value) for _, value in thin[-1:]]  # where the other line ends
                chart.curve([*thin, *last], "search thin", steps=True)
                if curve.baseline is not None:
                    ends = [
                        (x_of(curve.points[0]), curve.baseline),
                        (x_of(curve.points[-1]), curve.baseline),
                    ]
                    chart.curve(ends, "baseline", dashed=True)
                if index:
                    chart.limit(x_of(curve.points[0]), "dense thin", text="fine-tuning")
            return chart.svg()

        return responsive(draw, wide=HALF)

    charts = _twice(drawn, [point for curve in found.curves for point in curve.points])
    return charts + legend(
        [
            ("all schedules so far", "search", "line"),
            ("searched, at the costs of the hand-crafted", "search thin", "line"),
            ("hand-crafted", "baseline", "dashes"),
        ]
    )


def regret_charts(found: Findings) -> str:
    """Regret against hand-crafted schedules, in units of the metric; below zero the search is better."""
    shown = found.view.spec.metric.shown

    def drawn(x_of: Abscissa, x_title: str) -> str:
        def draw(width: int) -> str:
            points = [point for curve in found.regrets for point in curve.points]
            values = [shown(r) for point in points for r in point.by_budget if r is not None]
            chart = Chart.over(
                [x_of(point) for point in points],
                [*values, 0.0],
                width=width,
                height=260,
                label=f"regret over {x_title}",
            )
            chart.axes(x_title, "regret, points")
            for index, curve in enumerate(found.regrets):
                for budget in range(len(curve.budgets)):
                    one = [(x_of(p), shown(r)) for p in curve.points if (r := p.by_budget[budget]) is not None]
                    chart.curve(one, "search thin" if len(curve.budgets) > 1 else "search", steps=True)
                mean = [(x_of(p), shown(p.mean)) for p in curve.points if p.mean is not None]
                chart.curve(mean, "search", steps=True)
                chart.marks(mean[-1:], "search", size=4.0, hints=[f"{mean[-1][1]:+.2f} points"] if mean else [])
                if index:
                    chart.limit(x_of(curve.points[0]), "dense thin", text="fine-tuning")
            chart.level(0.0, "baseline", text="equal to hand-crafted", below=True)
            return chart.svg()

        return responsive(draw, wide=HALF)

    charts = _twice(drawn, [point for curve in found.regrets for point in curve.points])
    several = any(len(curve.budgets) > 1 for curve in found.regrets)
    entries = [("mean over the budgets", "search", "line"), ("one budget", "search thin", "line")]
    return charts + (legend(entries) if several else "")  # type: ignore[arg-type]


def _twice(drawn: Callable[[Abscissa, str], str], points: Sequence[CurvePoint | RegretPoint]) -> str:
    by_number = drawn(lambda point: float(point.position), "schedules measured")
    seconds = [point.seconds for point in points]
    if any(value is None for value in seconds):
        return by_number
    longest = max(value for value in seconds if value is not None)
    unit, scale = ("h", 3600.0) if longest >= 7200 else ("min", 60.0) if longest >= 180 else ("s", 1.0)
    by_clock = drawn(lambda point: (point.seconds or 0.0) / scale, f"time since the study started, {unit}")
    return f'<div class="pair"><div>{by_number}</div><div>{by_clock}</div></div>'


def _final_part(curve: HypervolumeCurve) -> list[float]:
    """The values of a curve near its end; the initial rise from zero would flatten the rest of the chart."""
    end = curve.points[-1].value
    return [point.value for point in curve.points if point.value >= _SHOWN_ABOVE * end]
