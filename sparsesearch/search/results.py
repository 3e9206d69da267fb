"""What a study has found: its front, its best trial, its references."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sparsesearch.search.pareto import pareto_front
from sparsesearch.trial import Fidelity, Origin, Trial, TrialState

BEST_FIRST = (Fidelity.FINETUNE, Fidelity.SUPERNET, Fidelity.UNTRAINED)
"""Fidelities of candidates, the one that counts most first."""


@dataclass(frozen=True)
class StudyFront:
    """The front of one study at one fidelity.

    Attributes:
        fidelity: The highest fidelity at which candidates are complete, None if there are none yet.
        reference: The dense model, None until it is measured.
        points: The non-dominated trials, cheapest first; hand baselines take part.
        candidates: All complete trials of that fidelity, by number.
    """

    fidelity: Fidelity | None
    reference: Trial | None
    points: tuple[Trial, ...]
    candidates: tuple[Trial, ...]

    def best(self, *, budget_macs: int) -> Trial | None:
        """The most accurate trial within a budget; the cheaper one of equals."""
        affordable = [trial for trial in self.points if trial.cost.macs <= budget_macs]
        return max(affordable, key=lambda t: (t.metrics["val_top1"], -t.cost.macs), default=None)


def study_front(trials: Sequence[Trial]) -> StudyFront:
    """The front of the highest fidelity that has complete trials; fidelities are never mixed."""
    reference = next((t for t in trials if t.fidelity is Fidelity.DENSE and t.state is TrialState.REFERENCE), None)
    for fidelity in BEST_FIRST:
        candidates = tuple(trial for trial in trials if trial.fidelity is fidelity and has_score(trial))
        if any(trial.origin is Origin.SEARCH for trial in candidates):
            on_front = pareto_front([(t.metrics["val_top1"], float(t.cost.macs)) for t in candidates])
            return StudyFront(fidelity, reference, tuple(candidates[i] for i in on_front), candidates)
    return StudyFront(None, reference, (), ())


def has_score(trial: Trial) -> bool:
    """Whether a trial can be compared with others."""
    return trial.state is TrialState.COMPLETE and math.isfinite(trial.metrics.get("val_top1", math.nan))
