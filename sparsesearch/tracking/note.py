"""The text that MLflow shows on top of a run, as Markdown."""

from __future__ import annotations

from collections import Counter

from sparsesearch.tracking.view import StudyView
from sparsesearch.tracking.words import FIDELITY_WORDS, accuracy_text, found_by, gmacs_text, percent, tokens_text
from sparsesearch.trial import Fidelity, Trial

MAX_ROWS = 12
"""Rows of the front in the note; the whole front is in the files."""


def study_note(view: StudyView) -> str:
    """What a study is, what it has found, and where to look further."""
    spec = view.spec
    lines = [
        f"A search for where `{spec.backbone}` can drop tokens, and how many, within **{_budget(view)}**. "
        f"Data: `{spec.data.source}`.",
        "",
    ]
    for warning in view.warnings:
        lines += [f"> **Note: {warning}.**", ""]
    best, dense = view.best, view.front.reference
    if best is None or dense is None:
        lines += ["No schedule has been evaluated yet.", ""]
    else:
        assert view.front.fidelity is not None, "a best trial has a fidelity"
        lines += [
            f"**Best within the budget: {accuracy_text(best)} validation accuracy at {gmacs_text(best.cost.macs)} "
            f"GMACs**, {percent(best.cost.macs / dense.cost.macs)} of the dense model, which has "
            f"{accuracy_text(dense)} at {gmacs_text(dense.cost.macs)} GMACs. "
            f"Trial {best.number}, {found_by(best)}; {tokens_text(view, best)}.",
            "",
            f"### Pareto front ({FIDELITY_WORDS[view.front.fidelity]})",
            "",
            *_front_table(view, dense),
            "",
        ]
    lines += [
        "### Where to look",
        "",
        "- **Artifacts / front.html**: the front to explore, with every schedule; it needs no network. "
        "`front.png` is the same as a picture, `front.json` as a table.",
        "- **Artifacts / supernet.json**: every schedule that was evaluated without training it.",
        f"- **Artifacts / best.yaml**: the best schedule; `sparsesearch retrain best.yaml` trains it in full. "
        f"Any other: `sparsesearch export {spec.name} --budget-gflops X`.",
        "- **Child runs**: the trainings, with their metrics by epoch.",
        "",
        f"Trials: {_counts(view)}. GMACs are 10^9 multiply-adds of one image, what papers call GFLOPs. "
        "This is a copy; the study itself lies in the database of sparsesearch.",
    ]
    return "\n".join(lines)


def trial_note(view: StudyView, trial: Trial) -> str:
    """What a training is."""
    match trial.fidelity:
        case Fidelity.DENSE:
            text = "The model without any sparsification: the reference, and the teacher of all others."
        case Fidelity.ELASTIC:
            text = (
                "One training in which random schedules take turns. Its weights serve every schedule: "
                "`supernet.json` of the study's run lists the schedules that were evaluated on them."
            )
        case _:
            parent = "" if trial.parent is None else f" It goes on from trial {trial.parent}."
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
    return f"{text} (at most {gmacs_text(view.budget_macs)} GMACs)"


def _front_table(view: StudyView, dense: Trial) -> list[str]:
    points = view.front.points
    lines = [
        "| trial | GMACs | of dense | accuracy | found by | tokens left before block |",
        "|--:|--:|--:|--:|---|---|",
    ]
    for trial in points[-MAX_ROWS:]:
        mark = " **best**" if view.best is not None and trial.number == view.best.number else ""
        cells = (
            f"{trial.number}{mark}",
            gmacs_text(trial.cost.macs),
            percent(trial.cost.macs / dense.cost.macs),
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
