"""The report as one HTML page. It holds all it needs: no script, no network, some ten to hundred kilobytes."""

from __future__ import annotations

from html import escape

from sparsesearch.analysis.agreement import FEW_PAIRS, Agreement
from sparsesearch.analysis.findings import Findings
from sparsesearch.analysis.importance import LEAST_TRIALS
from sparsesearch.analysis.view import StudyView
from sparsesearch.analysis.words import FIDELITY_WORDS, accuracy_text, found_by, latency_text, of_dense_text
from sparsesearch.papers.overlay import PaperOverlay
from sparsesearch.report.bars import agreement_chart, importance_bars
from sparsesearch.report.depth_charts import schedule_drawings
from sparsesearch.report.fronts import front_charts
from sparsesearch.report.html_tables import baseline_table, front_table, paper_table, spending_table
from sparsesearch.report.progress_charts import hypervolume_charts, regret_charts
from sparsesearch.report.style import STYLE
from sparsesearch.text import human_time, macs_text

REPORT = "report.html"

_REGRET = (
    "Regret is the accuracy of the best hand-crafted schedule within a budget, less that of the best schedule the "
    "search had found within the same budget by then: above zero the search is still behind, below zero it is ahead."
)
_HYPERVOLUME = (
    "The hypervolume is the area of accuracy and cost that the schedules found so far dominate, as a share of the area "
    "under the dense model (reference point: accuracy 0 at the dense model's cost); larger is better. The line for "
    "evaluated and the one for fine-tuned schedules cannot be compared with each other."
)


def report_page(view: StudyView) -> str:
    """The page of a study, whatever it has found so far."""
    return findings_page(Findings.of(view))


def findings_page(found: Findings) -> str:
    """The page of a study that is judged already."""
    view = found.view
    title = f"{view.spec.name}: {view.spec.backbone} within {view.spec.budget}"
    sections = [_front(found), _baselines(found), _hypervolume(found), _regret(found), _schedules(found)]
    sections += [_importance(found), _agreement(found), _spending(found)]
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{_header(found, title)}\n"
        + "\n".join(section for section in sections if section)
        + "\n<footer>GMACs are 10<sup>9</sup> multiply-adds of one image, which papers call GFLOPs: linear layers, "
        "convolutions and matrix products, attention and predictors included. Accuracies are shares of validation "
        "images. Made by sparsesearch from its study database.</footer>\n</main>\n</body>\n</html>\n"
    )


def _header(found: Findings, title: str) -> str:
    view = found.view
    warnings = "".join(f'<p class="warning">{escape(warning)}</p>' for warning in view.warnings)
    about = f"Data: {escape(view.spec.data.source)}; sampler {view.spec.sampler}, seed {view.spec.seed}."
    return (
        f'<header><h1>{escape(title)}</h1><p class="soft">{about}</p>{_facts(found)}'
        f'<p class="verdict">{escape(found.convergence.sentence)}</p>{warnings}</header>'
    )


def _facts(found: Findings) -> str:
    view = found.view
    best, dense = view.best, view.front.reference
    facts: list[tuple[str, str, str]] = []
    if best is not None and dense is not None:
        share = f"{of_dense_text(best.cost.macs, dense.cost.macs)} of dense"
        latency = latency_text(best)
        facts.append(("best within the budget", accuracy_text(best), found_by(best)))
        facts.append(("its cost", f"{macs_text(best.cost.macs)}", f"{share}, {latency}" if latency else share))
    if dense is not None:
        facts.append(("dense model", accuracy_text(dense), f"{macs_text(dense.cost.macs)}"))
    if view.hypervolume is not None:
        points = len(view.front.points)
        facts.append(("hypervolume", f"{view.hypervolume:.2f} %", f"{points} schedules on the front"))
    failed = sum(phase.failed for phase in found.spending)
    trials = f"{failed} failed" if failed else "none failed"
    spans = [phase.span_s for phase in found.spending if phase.span_s is not None]
    facts.append(("trials", str(len(view.trials)), f"{trials}, {human_time(sum(spans))}"))
    cells = (f"<div><dt>{name}</dt><dd>{value}<small>{escape(more)}</small></dd></div>" for name, value, more in facts)
    return f'<dl class="facts">{"".join(cells)}</dl>'


def _front(found: Findings) -> str:
    view = found.view
    if view.front.fidelity is None:
        return "<section><h2>The front</h2><p>No schedule has been evaluated yet.</p></section>"
    words = f"Schedules {FIDELITY_WORDS[view.front.fidelity]}. Point at a mark for its schedule."
    return (
        f'<section id="front"><h2>The front</h2><p class="soft">{words}</p>{front_charts(view, found.paper)}'
        f"{_paper(found.paper)}</section>"
        f'<section id="front-table"><h2>Schedules on the front</h2>{front_table(view)}<p class="note">'
        "&ldquo;3:137 6:96&rdquo; means 137 tokens left before block 3, 96 before block 6.</p></section>"
    )


def _paper(paper: PaperOverlay | None) -> str:
    if paper is None:
        return ""
    caveat = f" {paper.caveat[0].upper()}{paper.caveat[1:]}." if paper.caveat else ""
    words = f"Ticks at the foot are rates without a published accuracy. Source: {paper.family.source}.{caveat}"
    return f'<p class="note">{escape(words)}</p>{paper_table(paper)}'


def _baselines(found: Findings) -> str:
    if not found.comparison:
        return ""
    known = [row.difference for row in found.comparison if row.difference is not None]
    ahead, behind = sum(d > 0 for d in known), sum(d < 0 for d in known)
    summary = (
        f"At equal budgets the searched schedule is ahead at {ahead} of {len(found.comparison)}, behind at {behind}; "
        f"on average {100 * sum(known) / len(known):+.2f} points."
        if known
        else "No searched schedule is within a budget of the hand-crafted schedules yet."
    )
    noise = (
        " Noise is half a 95 % interval as if both were measured on different images; they saw the same ones, so the "
        "true interval is smaller. It says nothing of other seeds."
        if any(row.noise is not None for row in found.comparison)
        else ""
    )
    return (
        f'<section id="baseline"><h2>Against hand-crafted schedules</h2><p>{summary}</p>'
        f"{baseline_table(found.view, found.comparison)}"
        f'<p class="note">Both sides are measured alike, on the same validation images and at one fidelity.{noise}</p>'
        "</section>"
    )


def _hypervolume(found: Findings) -> str:
    if not found.curves:
        return ""
    return (
        f'<section id="hypervolume"><h2>Hypervolume</h2><p class="soft">{_HYPERVOLUME}</p>'
        f"{hypervolume_charts(found)}</section>"
    )


def _regret(found: Findings) -> str:
    if not found.regrets:
        return ""
    return (
        f'<section id="regret"><h2>Regret against hand-crafted schedules</h2><p class="soft">{_REGRET}</p>'
        f"{regret_charts(found)}</section>"
    )


def _schedules(found: Findings) -> str:
    if found.view.front.fidelity is None:
        return ""
    return f'<section id="schedules"><h2>The best schedules over depth</h2>{schedule_drawings(found.view)}</section>'


def _importance(found: Findings) -> str:
    if found.view.front.fidelity is None:
        return ""
    if found.importance is None:
        body = f'<p class="soft">It takes {LEAST_TRIALS} searched schedules to tell; there are fewer yet.</p>'
    else:
        words = (
            f"How much each parameter sets the best {found.importance.good} of {found.importance.trials} schedules "
            f"apart from all, where best means {found.importance.objective} (PED-ANOVA). It is about the schedules "
            "that were tried, not about all there could be."
        )
        body = f'<p class="soft">{words}</p>{importance_bars(found.importance)}'
    return f'<section id="importance" class="half"><h2>What mattered</h2>{body}</section>'


def _agreement(found: Findings) -> str:
    if found.agreement is None:
        return ""
    return (
        f'<section id="agreement" class="half"><h2>Do shared weights rank as fine-tuning does?</h2>'
        f'<p class="soft">{_agreement_words(found.agreement)}</p>'
        f"{agreement_chart(found.view, found.agreement)}</section>"
    )


def _agreement_words(found: Agreement) -> str:
    words = (
        f"Kendall&rsquo;s tau {_number(found.tau)}, Spearman&rsquo;s rho {_number(found.rho)} over {len(found.pairs)} "
        f"schedules measured both ways. Ranking them by multiply-adds alone has tau {_number(found.tau_macs)}."
    )
    few = " So few schedules say little." if len(found.pairs) < FEW_PAIRS else ""
    return f"{words}{few} Only the best were fine-tuned, which makes them harder to tell apart."


def _spending(found: Findings) -> str:
    if not found.spending:
        return ""
    return (
        f'<section id="spending"><h2>What the study cost</h2>{spending_table(found.spending)}'
        '<p class="note">Work adds up the seconds of all measurements; on the clock is from the first to the last of a '
        "phase, breaks included.</p></section>"
    )


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2f}"
