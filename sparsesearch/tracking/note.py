"""The description that MLflow shows at the top of a run, as Markdown."""

from __future__ import annotations

from collections import Counter

from sparsesearch.analysis.describe_front import describe_front
from sparsesearch.analysis.front_description import WORD_COLUMNS, FrontDescription
from sparsesearch.analysis.view import StudyView
from sparsesearch.analysis.words import FIDELITY_WORDS, found_by, tokens_text
from sparsesearch.study.trial import Fidelity, Trial
from sparsesearch.text import macs_text

RUN_PAGE = "RUN_PAGE"
"""Placeholder for the address of the run's page, which is known only after the run is created."""

_MODE = "workflowType=machine_learning"
MAX_ROWS = 12
"""Maximum number of rows of the front in the note; the full front is in the artifacts."""


def study_note(view: StudyView) -> str:
    """Describe a study: its best result, its settings and its artifacts. MLflow collapses it after some lines."""
    spec = view.spec
    front = describe_front(view)
    best = "" if front.best is None else f" {front.best.hint[0].capitalize()}: {front.best.tokens}."
    warnings = "".join(f" **Note: {warning}.**" for warning in view.warnings)
    lines = [
        f"**{front.summary}**{best} [Explore the front]({RUN_PAGE}/artifacts/front.html?{_MODE}).{warnings}",
        "",
        f"A search for token-sparsification schedules of `{spec.backbone}` within {_budget(view)}; data: "
        f"`{spec.data.source}`.",
        "",
    ]
    if front.best is not None:
        lines += [
            f"### Pareto front: {front.subtitle[:-1].lower()}",
            "",
            *_front_table(front),
            "",
            "A schedule reads `3:137 6:96`: 137 tokens are left before block 3, 96 before block 6.",
            "",
        ]
    lines += [
        "### Artifacts and child runs",
        "",
        f"- [Artifacts / report.html]({RUN_PAGE}/artifacts/report.html?{_MODE}): the full report: front, hypervolume, "
        "regret of hand-crafted baselines, parameter importances, cost of the search, and convergence.",
        f"- [Artifacts / front.html]({RUN_PAGE}/artifacts/front.html?{_MODE}): the interactive front with every "
        "schedule; it needs no network. `front.png` is the same as an image, `front.json` as a table.",
        f"- [Artifacts / supernet.json]({RUN_PAGE}/artifacts/supernet.json?{_MODE}): every schedule that was evaluated "
        "without training it.",
        f"- Artifacts / best.yaml: the best schedule; `sparsesearch retrain best.yaml` trains it in full. "
        f"For another budget: `sparsesearch export {spec.name} --budget-gflops X`.",
        "- Child runs: the trainings, with their metrics by epoch.",
        "",
        f"Trials: {_counts(view)}. GMACs are 10^9 multiply-adds of one image, which papers call GFLOPs. "
        "This is a copy; the study itself is stored in the sparsesearch database.",
    ]
    return "\n".join(lines)


def trial_note(view: StudyView, trial: Trial) -> str:
    """Describe a training."""
    match trial.fidelity:
        case Fidelity.DENSE:
            text = "The model without sparsification: the reference, and the teacher of all other models."
        case Fidelity.SUPERNET_TRAINING:
            text = (
                "One training over randomly sampled schedules, whose weights are shared by every schedule: "
                "`supernet.json` of the study's run lists the schedules that were evaluated with them."
            )
        case Fidelity.COUNTS:
            text = (
                f"How many tokens to keep at each block, learned by gradients ({trial.label}): `level_S_B` is the "
                "logarithm of the relative drop at block B of stage S, `trend_S_B` its change over half of the range "
                "of budgets. The first proposals of the sampler `gradients` follow them."
            )
        case _:
            parent = "" if trial.parent is None else f" It continues from trial {trial.parent}."
            text = (
                f"One schedule, {FIDELITY_WORDS[trial.fidelity]} ({found_by(trial)}): {tokens_text(view, trial)}."
                f"{parent}"
            )
    reason = f"\n\n**{trial.state.value}**: {trial.reason}" if trial.reason else ""
    warnings = "".join(f"\n\n> **Note: {warning}.**" for warning in view.warnings)
    return text + reason + warnings


def _budget(view: StudyView) -> str:
    text = str(view.spec.budget)
    if view.budget_macs is None or view.spec.budget.unit == "gflops":
        return text
    return f"{text} (at most {macs_text(view.budget_macs)})"


def _front_table(front: FrontDescription) -> list[str]:
    references = [point for point in (front.dense, front.trained_dense) if point is not None]
    rows = [*references, *front.front[-MAX_ROWS:]]
    lines = [" | ".join(front.head), "|".join("---" if name in WORD_COLUMNS else "--:" for name in front.head)]
    for point in rows:
        number, *cells, schedule = front.cells(point)
        lines.append(" | ".join([f"{number}{' **best**' if point.is_best else ''}", *cells, f"`{schedule}`"]))
    lines = [f"| {line} |" for line in lines]
    if len(front.front) > MAX_ROWS:
        lines.append(f"\n{len(front.front) - MAX_ROWS} cheaper ones are in `front.json`.")
    return lines


def _counts(view: StudyView) -> str:
    counts = Counter((row.fidelity.value, row.state.value) for row in view.rows)
    return ", ".join(f"{number} {fidelity} {state}" for (fidelity, state), number in counts.items()) or "none"
