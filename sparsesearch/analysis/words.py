"""Text for numbers and schedules in reports."""

from __future__ import annotations

import math

from sparsesearch.analysis.view import StudyView
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import TRAINED_DENSE, Fidelity, Origin, Trial
from sparsesearch.text import ms_text, percent_text

FIDELITY_WORDS = {
    Fidelity.DENSE: "the dense model",
    Fidelity.SUPERNET_TRAINING: "supernet training",
    Fidelity.COUNTS: "token counts learned by gradients",
    Fidelity.UNTRAINED: "evaluated with the dense weights, without training",
    Fidelity.SUPERNET: "evaluated with shared supernet weights, without training of their own",
    Fidelity.RESCORED: "evaluated without training of their own, on images that did not rank them",
    Fidelity.FINETUNE: "fine-tuned briefly",
    Fidelity.RETRAIN: "fully trained",
}


def latency_text(trial: Trial) -> str:
    """`2.41 ms measured`, `2.41 ms predicted`, or an empty string."""
    if trial.cost.ms is None:
        return ""
    return f"{ms_text(trial.cost.ms)} {'predicted' if trial.cost.latency_ms is None else 'measured'}"


def latency_cell(trial: Trial) -> str:
    """The latency of a call in milliseconds: `2.41` if measured, `~2.41` if predicted."""
    if trial.cost.ms is None:
        return ""
    return f"{'~' if trial.cost.latency_ms is None else ''}{trial.cost.ms:.4g}"


def accuracy_text(spec: StudySpec, trial: Trial) -> str:
    """The metric of a trial as text, empty if it was not measured; see `meaningful_text`."""
    value = spec.metric.of(trial.metrics)
    return "" if math.isnan(value) else meaningful_text(spec, value)


def meaningful_text(spec: StudySpec, value: float) -> str:
    """`95.30 %`, or `(95.3 % not meaningful)` if there was too little time to train the backbone."""
    return spec.metric.text(value) if spec.meaningful else f"({spec.metric.text(value, digits=1)} not meaningful)"


def of_dense_text(cost: float, dense: float) -> str:
    """A cost in percent of that of the dense model: `34.8 %`."""
    return percent_text(cost / dense, digits=1)


def found_by(trial: Trial) -> str:
    """The origin: `search`, `baseline rho at 2,4,6`, `dense model`, `dense, same training` or `counts by METHOD`."""
    if trial.origin is Origin.REFERENCE:
        return trial.label if trial.label == TRAINED_DENSE or trial.fidelity is Fidelity.COUNTS else "dense model"
    return f"baseline {trial.label}" if trial.origin is Origin.BASELINE else "search"


def tokens_text(view: StudyView, trial: Trial) -> str:
    """The schedule in words: `block 3: 137 of 196 tokens left, block 6: 96, block 9: 67`."""
    resolved = view.spec.resolved
    if resolved is None:
        return ""
    geometry = resolved.geometry
    parts: list[str] = []
    for step in trial.schedule.resolve(geometry):
        where = f"block {step.block}" if len(geometry.stages) == 1 else f"stage {step.stage} block {step.block}"
        where += "" if step.phase == "before_block" else " (before its feed-forward network)"
        whole = f" of {geometry.stages[step.stage].num_tokens} tokens left" if not parts else ""
        kinds = [step.reducer.kind, "dynamicvit" if step.scorer is None else step.scorer.kind]
        unusual = ", ".join(kind for kind in kinds if kind not in ("prune", "dynamicvit"))
        parts.append(f"{where}: {step.num_tokens}{whole}{f' ({unusual})' if unusual else ''}")
    return ", ".join(parts) or "all tokens kept"


def accuracy_warning(spec: StudySpec) -> dict[str, str]:
    """Return the key to add to JSON documents of a study whose accuracies are not meaningful."""
    return {} if spec.meaningful else {"accuracy": "not meaningful"}
