"""Importances as bars, and the agreement of two fidelities as points."""

from __future__ import annotations

import re
from html import escape

from sparsesearch.analysis.agreement import Agreement
from sparsesearch.analysis.importance import Importance
from sparsesearch.analysis.view import StudyView
from sparsesearch.report.chart import HALF, Chart, responsive
from sparsesearch.report.fronts import hint

_WORDS = (
    (r"predictors", "how many steps"),
    (r"position_(\d+)", "where step {} is"),
    (r"weight_(\d+)", "how much step {} drops"),
    (r"method", "score and reduction"),
    (r"method_(\d+)", "score and reduction of step {}"),
    (r"merge_(\d+)", "whether step {} merges too"),
    (r"scorer", "which score"),
)
_MOST = 12


def parameter_words(name: str) -> str:
    """What a parameter of the search space decides; its name where that is not known."""
    for pattern, words in _WORDS:
        match = re.fullmatch(pattern, name)
        if match is not None:
            return words.format(*(int(group) + 1 for group in match.groups()))
    return name


def importance_bars(found: Importance) -> str:
    """The shares of the parameters, the largest first, as plain HTML."""
    shown = list(found.shares.items())[:_MOST]
    most = max(share for _, share in shown) or 1.0
    rows = [
        f'<tr><td class="words" title="{escape(name)}">{escape(parameter_words(name))}</td>'
        f'<td class="words bar"><i class="search" style="width:{100 * share / most:.1f}%"></i></td>'
        f"<td>{100 * share:.1f} %</td></tr>"
        for name, share in shown
    ]
    return f'<table class="bars">{"".join(rows)}</table>'


def agreement_chart(view: StudyView, found: Agreement) -> str:
    """Each schedule's accuracy on shared weights against its accuracy when fine-tuned."""

    def draw(width: int) -> str:
        points = [(100 * a.metrics["val_top1"], 100 * b.metrics["val_top1"]) for a, b in found.pairs]
        label = f"{len(points)} schedules, evaluated against fine-tuned"
        chart = Chart.over(
            [x for x, _ in points], [y for _, y in points], width=width, height=260, label=label, room=0.1
        )
        chart.axes("accuracy on shared weights, %", "fine-tuned, %")
        chart.marks(points, "search", hints=[hint(view, tuned) for _, tuned in found.pairs])
        return chart.svg()

    return responsive(draw, wide=HALF)
