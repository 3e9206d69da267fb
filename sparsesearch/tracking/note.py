"""The description that MLflow shows at the top of a run, as Markdown."""

from __future__ import annotations

from collections import Counter

from sparsesearch.analysis.view import StudyView
from sparsesearch.analysis.words import FIDELITY_WORDS, accuracy_text, found_by, of_dense_text, tokens_text
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
    best, dense = view.best, view.front.reference
    warnings = "".join(f" **Note: {warning}.**" for warning in view.warnings)
    lines = [
        f"{_result(view, best, dense)} [Explore the front]({RUN_PAGE}/artifacts/front.html?{_MODE}).{warnings}",
        "",
        f"A search for token-sparsification schedules of `{spec.backbone}` within {_budget(view)}; data: "
        f"`{spec.data.source}`.",
        "",
    ]
    if best is not None and dense is not None and view.front.fidelity is not None:
        lines += [
            f"### Pareto front: schedules {FIDELITY_WORDS[view.front.fidelity]}",
            "",
            *_front_table(view, dense),
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


def _result(view: StudyView, best: Trial | None, dense: Trial | None) -> str:
    if best is None or dense is None:
        return "No schedule has been evaluated yet."
    return (
        f"**Best within the budget: {accuracy_text(best)} validation accuracy at {macs_text(best.cost.macs)}, "
        f"{of_dense_text(best.cost.macs, dense.cost.macs)} of the dense model** (it has {accuracy_text(dense)} at "
        f"{macs_text(dense.cost.macs)}). Trial {best.number}, {found_by(best)}: {tokens_text(view, best)}."
    )


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


def _front_table(view: StudyView, dense: Trial) -> list[str]:
    points = view.front.points
    lines = [
        "| trial | cost | of dense | accuracy | origin | tokens left before block |",
        "|--:|--:|--:|--:|---|---|",
    ]
    for trial in points[-MAX_ROWS:]:
        mark = " **best**" if view.best is not None and trial.number == view.best.number else ""
        cells = (
            f"{trial.number}{mark}",
            macs_text(trial.cost.macs),
            of_dense_text(trial.cost.macs, dense.cost.macs),
            accuracy_text(trial),
            found_by(trial),
            f"`{view.schedule_text(trial)}`",
        )
        lines.append(f"| {' | '.join(cells)} |")
    if len(points) > MAX_ROWS:
        lines.append(f"\n{len(points) - MAX_ROWS} cheaper ones are in `front.json`.")
    return lines


def _counts(view: StudyView) -> str:
    counts = Counter((trial.fidelity.value, trial.state.value) for trial in view.trials)
    return ", ".join(f"{number} {fidelity} {state}" for (fidelity, state), number in counts.items()) or "none"
