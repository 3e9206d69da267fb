"""The tables of the report."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from sparsesearch.analysis.baseline_comparison import BaselineComparison
from sparsesearch.analysis.front_description import WORD_COLUMNS, FrontDescription
from sparsesearch.analysis.spending import PhaseSpending
from sparsesearch.analysis.study_front import cost_along
from sparsesearch.analysis.view import StudyView
from sparsesearch.analysis.words import accuracy_text
from sparsesearch.papers.overlay import PaperOverlay
from sparsesearch.text import human_time, macs_text, ms_text, percent_text


def front_table(front: FrontDescription) -> str:
    """The dense model, then the Pareto front, cheapest first."""
    words = len(WORD_COLUMNS)
    rows = []
    for point in front.rows:
        cells = front.cells(point)
        rows.append(_row(cells[:-words], cells[-words:], style="best" if point.is_best else ""))
    return _table(front.head[:-words], WORD_COLUMNS, rows)


def baseline_table(view: StudyView, comparison: Sequence[BaselineComparison]) -> str:
    """Searched against hand-crafted schedules at equal budgets."""
    dense, shown = view.front.reference, view.spec.metric.shown
    has_interval = any(row.interval is not None for row in comparison)
    rows = []
    for row in comparison:
        budget = macs_text(round(row.budget)) if row.axis == "macs" else ms_text(row.budget)
        of_dense = "" if dense is None else f"{100 * row.budget / cost_along(dense, row.axis):.1f} %"
        difference = "none within budget"
        if row.difference is not None:
            style = "good" if row.is_better else "bad" if row.is_worse else ""
            difference = f'<span class="{style}">{shown(row.difference):+.2f}</span>'
        interval = "" if row.interval is None else " to ".join(f"{shown(end):+.2f}" for end in row.interval)
        searched = "" if row.searched is None else accuracy_text(view.spec, row.searched)
        cells = [
            budget,
            of_dense,
            accuracy_text(view.spec, row.baseline),
            searched,
            difference,
            *([interval] if has_interval else []),
        ]
        tokens = "" if row.searched is None else view.schedule_text(row.searched)
        rows.append(_row(cells, [row.baseline.label, tokens]))
    head = [
        "budget",
        "of dense",
        "hand-crafted",
        "searched",
        view.spec.metric.difference_title,
        *(["95 % interval"] if has_interval else []),
    ]
    return _table(head, ["best hand-crafted schedule", "best searched schedule"], rows)


def paper_table(paper: PaperOverlay) -> str:
    """A paper's schedules, cheapest first."""
    rows = []
    for point in paper.points:
        known = point.published
        cells = [f"{point.rho:g}", macs_text(point.macs), percent_text(point.share)]
        cells.append("" if known is None else f"{100 * known.top1:.2f} %")
        rows.append(_row(cells, [point.tokens]))
    return _table(["rho", "cost", "of dense", "published top-1"], ["tokens left before block"], rows)


def spending_table(spending: Sequence[PhaseSpending]) -> str:
    """Trials and time spent per phase, and in total."""
    rows = []
    for phase in spending:
        rows.append(_row(_cells(phase), [phase.name], words_first=True))
    if len(spending) > 1:
        total = PhaseSpending(
            name="total",
            trials=sum(phase.trials for phase in spending),
            complete=sum(phase.complete for phase in spending),
            stopped=sum(phase.stopped for phase in spending),
            failed=sum(phase.failed for phase in spending),
            epochs=sum(phase.epochs for phase in spending),
            work_s=sum(phase.work_s for phase in spending),
            span_s=sum(phase.span_s or 0.0 for phase in spending),
        )
        rows.append(_row(_cells(total), [total.name], words_first=True, style="best"))
    head = ["trials", "complete", "stopped early", "failed", "epochs", "compute time", "elapsed time"]
    return _table(head, ["phase"], rows, words_first=True)


def _cells(phase: PhaseSpending) -> list[str]:
    counts = [phase.trials, phase.complete, phase.stopped, phase.failed, phase.epochs]
    failed = f'<span class="bad">{phase.failed}</span>' if phase.failed else "0"
    shown = [str(count) for count in counts]
    shown[3] = failed
    return [*shown, human_time(phase.work_s), "" if phase.span_s is None else human_time(phase.span_s)]


def _row(cells: Sequence[str], words: Sequence[str], *, style: str = "", words_first: bool = False) -> str:
    numbers = "".join(f"<td>{cell}</td>" for cell in cells)
    texts = "".join(f'<td class="words">{escape(text)}</td>' for text in words)
    return f"<tr{f' class={style!r}' if style else ''}>{texts + numbers if words_first else numbers + texts}</tr>"


def _table(head: Sequence[str], words: Sequence[str], rows: Sequence[str], *, words_first: bool = False) -> str:
    numbers = "".join(f"<th>{name}</th>" for name in head)
    texts = "".join(f'<th class="words">{name}</th>' for name in words)
    top = texts + numbers if words_first else numbers + texts
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
