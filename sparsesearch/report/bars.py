"""Parameter importances as bars, and the agreement of two fidelities as a scatter plot."""

from __future__ import annotations

import re
from html import escape

from sparsesearch.analysis.agreement import Agreement
from sparsesearch.analysis.describe_front import describe_trials
from sparsesearch.analysis.importance import Importance
from sparsesearch.analysis.view import StudyView
from sparsesearch.report.chart import HALF, Chart, responsive
from sparsesearch.report.fronts import hint

_WORDS = (
    (r"predictors", "number of steps"),
    (r"position_(\d+)", "location of step {}"),
    (r"weight_(\d+)", "tokens dropped by step {}"),
    (r"method", "scorer and reduction"),
    (r"method_(\d+)", "scorer and reduction of step {}"),
    (r"merge_(\d+)", "merge after step {}"),
    (r"scorer", "scorer"),
)
_MAX_SHOWN = 12


def parameter_words(name: str) -> str:
    """Description of a parameter of the search space; its name if it has none."""
    for pattern, words in _WORDS:
        match = re.fullmatch(pattern, name)
        if match is not None:
            return words.format(*(int(group) + 1 for group in match.groups()))
    return name


def importance_bars(found: Importance) -> str:
    """The importances of the parameters as plain HTML, largest first."""
    shown = list(found.shares.items())[:_MAX_SHOWN]
    largest = max(value for _, value in shown) or 1.0
    rows = [
        f'<tr><td class="words" title="{escape(name)}">{escape(parameter_words(name))}</td>'
        f'<td class="words bar"><i class="search" style="width:{100 * value / largest:.1f}%"></i></td>'
        f"<td>{100 * value:.1f} %</td></tr>"
        for name, value in shown
    ]
    return f'<table class="bars">{"".join(rows)}</table>'


def agreement_chart(view: StudyView, found: Agreement) -> str:
    """Accuracy with shared weights against accuracy after fine-tuning, one point per schedule."""
    metric = view.spec.metric

    def draw(width: int) -> str:
        points = [(metric.shown(metric.of(a.metrics)), metric.shown(metric.of(b.metrics))) for a, b in found.pairs]
        label = f"{len(points)} schedules: {metric.words} with shared weights against that after fine-tuning"
        chart = Chart.over(
            [x for x, _ in points], [y for _, y in points], width=width, height=260, label=label, room=0.1
        )
        chart.axes(*(metric.titled(f"{metric.short} {how}") for how in ("with shared weights", "after fine-tuning")))
        chart.marks(
            points, "search", hints=[hint(tuned) for tuned in describe_trials(view, (pair[1] for pair in found.pairs))]
        )
        return chart.svg()

    return responsive(draw, wide=HALF)
