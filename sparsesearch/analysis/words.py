"""How numbers and schedules are worded for people."""

from __future__ import annotations

from sparsesearch.analysis.view import StudyView
from sparsesearch.study.trial import Fidelity, Origin, Trial

FIDELITY_WORDS = {
    Fidelity.DENSE: "the dense model",
    Fidelity.SUPERNET_TRAINING: "the supernet training",
    Fidelity.UNTRAINED: "evaluated on the dense weights, without any training",
    Fidelity.SUPERNET: "evaluated on shared supernet weights, not trained themselves",
    Fidelity.FINETUNE: "fine-tuned for a short while",
    Fidelity.RETRAIN: "trained in full",
}


def gmacs_text(macs: int) -> str:
    """10^9 multiply-adds with the digits that matter."""
    value = macs / 1e9
    return f"{value:.3f}" if value >= 0.1 else f"{value:.5f}"


def latency_text(trial: Trial) -> str:
    """`2.41 ms measured`, `2.41 ms predicted`, or nothing."""
    if trial.cost.ms is None:
        return ""
    return f"{trial.cost.ms:.4g} ms {'predicted' if trial.cost.latency_ms is None else 'measured'}"


def percent(share: float) -> str:
    """A fraction as percent."""
    return f"{100 * share:.2f} %"


def accuracy_text(trial: Trial) -> str:
    """Validation accuracy in percent, empty where it was not measured."""
    value = trial.metrics.get("val_top1")
    return "" if value is None else percent(value)


def found_by(trial: Trial) -> str:
    """Who thought of the schedule."""
    if trial.origin is Origin.REFERENCE:
        return "reference"
    return f"hand-crafted: {trial.label}" if trial.origin is Origin.BASELINE else "search"


def tokens_text(view: StudyView, trial: Trial) -> str:
    """`block 3: 137 of 196 tokens left, block 6: 96, block 9: 67`; the first names all there are."""
    resolved = view.spec.resolved
    if resolved is None:
        return ""
    geometry = resolved.geometry
    parts: list[str] = []
    for step in trial.schedule.resolve(geometry):
        place = f"block {step.block}" if len(geometry.stages) == 1 else f"stage {step.stage} block {step.block}"
        place += "" if step.phase == "before_block" else " (before its feed-forward part)"
        whole = f" of {geometry.stages[step.stage].num_tokens} tokens left" if not parts else ""
        kinds = [step.reducer.kind, "dynamicvit" if step.scorer is None else step.scorer.kind]
        unusual = ", ".join(kind for kind in kinds if kind not in ("prune", "dynamicvit"))
        parts.append(f"{place}: {step.num_tokens}{whole}{f' ({unusual})' if unusual else ''}")
    return ", ".join(parts) or "all tokens kept"
